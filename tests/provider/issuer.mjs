// An OpenID provider for tests: oidc-provider, certified and written by others, so that our idea of the standards is not
// checked against itself only. Started by tests/it/support/provider.rs.
//
// First line on stdout: {"issuer":"http://127.0.0.1:PORT"}. It ends when its standard input closes, so that it never
// outlives the test that started it, however that test ends.
//
// Hooks beside the provider's own endpoints:
//   POST /__rotate             a new signing key; the old ones stay in the key set, with `X-Drop: 1` they leave it
//   GET  /__count              {"jwks":N,"discovery":N}: how often these documents were asked for
import http from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';

const ORDERS = 'https://orders.example.test';        // tokens for this resource are RS256 JWTs (RFC 9068)
const LEGACY = 'https://legacy.example.test';        // tokens for this one are opaque
const resources = {
  [ORDERS]: { audience: ORDERS, scope: 'orders:read orders:write', accessTokenTTL: 300,
              accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
  [LEGACY]: { audience: LEGACY, scope: 'orders:read', accessTokenFormat: 'opaque' },
};

let made = 0;
const newKey = () => ({                              // a private JWK; the key set endpoint shows its public half
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid: `k${++made}`, use: 'sig', alg: 'RS256',
});

// A Provider's keys are fixed for its life, and the first fitting one signs: rotating makes a new Provider.
const provider = (issuer, keys) => new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: [randomUUID()] },
  scopes: ['openid', 'orders:read', 'orders:write'],
  clients: [
    { client_id: 'svc', client_secret: 'svc-secret', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], scope: 'orders:read orders:write' },
    { client_id: 'gateway', client_secret: 'gw-secret',               // only calls introspection
      grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
  ],
  extraTokenClaims: async () => ({ roles: ['reader'] }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    revocation: { enabled: true, allowedPolicy: async () => true },
    resourceIndicators: {                            // without this feature every access token is opaque
      enabled: true,
      defaultResource: async () => ORDERS,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (_ctx, uri) => {
        if (!resources[uri]) throw new errors.InvalidTarget();
        return resources[uri];
      },
    },
  },
});

const count = { jwks: 0, discovery: 0 };
let issuer, answer, keys = [newKey()];

const server = http.createServer((req, res) => {
  if (req.method === 'POST' && req.url === '/__rotate') {
    keys = [newKey(), ...(req.headers['x-drop'] ? [] : keys)];
    answer = provider(issuer, keys).callback();
    return res.end();
  }
  if (req.method === 'GET' && req.url === '/__count') {
    res.setHeader('content-type', 'application/json');
    return res.end(JSON.stringify(count));
  }
  if (req.url === '/jwks') count.jwks += 1;
  if (req.url === '/.well-known/openid-configuration') count.discovery += 1;
  return answer(req, res);
});

server.listen(0, '127.0.0.1', () => {                // port 0: only now the issuer is known
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider(issuer, keys).callback();
  console.log(JSON.stringify({ issuer }));
});

process.stdin.resume();
process.stdin.once('close', () => process.exit(0));
