// What a Node team does today: Auth0's middleware and a proxy, in one process. Told what to do by the environment.
import http from "node:http";

import express from "express";
import { auth, requiredScopes } from "express-oauth2-jwt-bearer";
import { createProxyMiddleware } from "http-proxy-middleware";

const { AUDIENCE, ISSUER, JWKS_URL, PORT, SCOPE, UPSTREAM } = process.env;
const app = express();
app.disable("x-powered-by");
app.use(auth({ audience: AUDIENCE, issuer: ISSUER, jwksUri: JWKS_URL, tokenSigningAlg: "RS256" }));
app.use(requiredScopes(SCOPE));
app.use(
  createProxyMiddleware({
    target: UPSTREAM,
    agent: new http.Agent({ keepAlive: true, maxSockets: 64 }),
    on: { proxyReq: (proxied, request) => proxied.setHeader("X-Identity-Subject", request.auth.payload.sub) },
  }),
);
// Express prints a refusal's stack otherwise, for each request.
app.use((error, _request, response, _next) => response.status(error.status ?? 500).set(error.headers ?? {}).end());
app.listen(Number(PORT), "127.0.0.1");
