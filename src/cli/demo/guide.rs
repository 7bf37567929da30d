//! The demo's guide: commands to paste, with the expected result of each.

use super::config::Addresses;

/// Tokens for the commands.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) reader: String,
    pub(super) writer: String,
    pub(super) admin: String,
    pub(super) expired: String,
}

/// The text of the guide.
pub(super) fn text(addresses: &Addresses, tokens: &Tokens) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "portcullis".to_owned());
    let Addresses { gateway, issuer, upstream, admin } = addresses;
    let Tokens { reader, writer, admin: admin_token, expired } = tokens;
    format!(
        r#"Portcullis demo: everything runs in this process, on loopback. Press Ctrl-C to stop it.

  gateway   http://{gateway}
  issuer    http://{issuer}   (clients reader, writer, admin; secret: demo)
  upstream  http://{upstream}   (echoes each request as JSON)
  admin     http://{admin}/metrics, /readyz
  config    {program} demo --print-config

Paste this into another terminal first. The tokens are valid for one hour.

GW=http://{gateway}
READER={reader}
WRITER={writer}
ADMIN={admin_token}
EXPIRED={expired}

Then run these commands one by one:

1. A public route: 200 without a token.
   curl -i $GW/public/hello

2. No token: 401. The caller is unknown. WWW-Authenticate names the required scope.
   curl -i $GW/orders/7

3. A valid token: 200. The upstream receives the caller's identity in X-Identity-* headers, but not the token.
   curl -i -H "Authorization: Bearer $READER" $GW/orders/7

4. Forged identity headers: 200, but the upstream receives "reader", not "root".
   curl -i -H "Authorization: Bearer $READER" -H "X-Identity-Subject: root" -H "X_Identity_Roles: admin" $GW/orders/7

5. An expired token: 401, invalid_token.
   curl -i -H "Authorization: Bearer $EXPIRED" $GW/orders/7

6. A token without the required scope: 403. The caller is known but not allowed. WWW-Authenticate names the scope.
   curl -i -X POST -H "Authorization: Bearer $READER" -d '{{}}' $GW/orders

7. A token with the required scope: 200.
   curl -i -X POST -H "Authorization: Bearer $WRITER" -d '{{}}' $GW/orders

8. A token without the required role: 403. A token with the role: 200.
   curl -i -H "Authorization: Bearer $WRITER" $GW/admin/users
   curl -i -H "Authorization: Bearer $ADMIN" $GW/admin/users

9. A limit of five requests per minute: the sixth is 429, and Retry-After says when to retry.
   for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w "%{{http_code}}\n" -H "Authorization: Bearer $READER" $GW/limited; done
   curl -i -H "Authorization: Bearer $READER" $GW/limited

10. A CORS preflight request from an allowed origin: 204 without a token.
   curl -i -X OPTIONS -H "Origin: http://localhost:3000" -H "Access-Control-Request-Method: GET" $GW/browser/x

11. A path that servers may interpret differently: 400.
   curl -i --path-as-is $GW/public/../admin/users

12. A new token from the issuer.
   curl -s -u reader:demo -d grant_type=client_credentials http://{issuer}/token

13. The number of rejected requests, by route and code.
   curl -s http://{admin}/metrics | grep portcullis_rejections_total

Ready.
"#
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_guide_has_addresses_tokens_and_every_status() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses { gateway: at(1), issuer: at(2), upstream: at(3), admin: at(4) };
        let tokens = Tokens { reader: "R".into(), writer: "W".into(), admin: "A".into(), expired: "E".into() };
        let guide = text(&addresses, &tokens);
        for part in [
            "GW=http://127.0.0.1:1\nREADER=R\nWRITER=W\nADMIN=A\nEXPIRED=E\n",
            "http://127.0.0.1:2/token",
            "http://127.0.0.1:4/metrics",
            "%{http_code}",
            "-d '{}'",
        ] {
            assert!(guide.contains(part), "{part}");
        }
        for status in ["200", "204", "400", "401", "403", "429"] {
            assert!(guide.contains(status), "{status}");
        }
        assert!(guide.ends_with("\nReady.\n"));
    }
}
