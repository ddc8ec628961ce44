// An authority that issues tokens to one application, by oidc-provider behind Node's own HTTPS.
//
//   node authority.mjs MODULES CERTIFICATE KEY CLIENT_CERTIFICATE TENANT CLIENT SCOPE ALGORITHM...
//
// MODULES is the folder with oidc-provider in its node_modules. Says its port, and then what it issues or refuses.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, certificate, key, clientCertificate, tenant, client, scope, ...algorithms] = process.argv.slice(2);
const resolve = createRequire(`${modules}/package.json`).resolve;
const { Provider } = await import(pathToFileURL(resolve('oidc-provider')));
const prefix = `/${tenant}/v2.0`;

const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
server.listen(0, '127.0.0.1', () => {
  const provider = new Provider(`https://127.0.0.1:${server.address().port}${prefix}`, {
    clients: [
      {
        client_id: client,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        scope,
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [new X509Certificate(readFileSync(clientCertificate)).publicKey.export({ format: 'jwk' })] },
      },
    ],
    enabledJWA: { clientAuthSigningAlgValues: algorithms },
    features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
    scopes: [scope],
    ttl: { ClientCredentials: 600 },
  });
  provider.on('client_credentials.saved', (token) => console.log(`issued ${token.jti} for ${token.scope}`));
  provider.on('grant.error', (_, error) => console.log(`refused: ${error.message}: ${error.error_detail}`));
  const answer = provider.callback();
  server.on('request', (request, response) => {
    request.originalUrl = request.url;
    request.url = request.url.replace(prefix, '');
    answer(request, response);
  });
  console.log(server.address().port);
});
