// The outside peer of tests/identity/test_interop.py: the OpenID-certified oidc-provider as two issuers on free ports
// of 127.0.0.1, so that nothing but the protocol is shared with the code under test.
//
//   strict  pushed requests only, private_key_jwt, ES256, claims from userinfo alone, as FAPI 2.0 would have it
//   plain   a secret in client_secret_basic, RS256, claims in the ID token too
//
// argv[2] is JSON: the client's public keys `jwks`, its `secret`, `redirect`, `after` and `logout` addresses.  One line
// of JSON on stdout tells the issuers once they answer; the end of stdin ends the process, however the test ended.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const client = JSON.parse(process.argv[2]);

const ACCOUNTS = {
  'cong-dan': {
    SoDinhDanh: '099085000001', HoVaTen: 'Triệu Thị Mùi', NgayThangNamSinh: '02/03/1985', SoDienThoai: '0900000001',
    LoaiTaiKhoan: 1, IAL: 2,
  },
  'to-chuc': { MaSoThue: '0000000001', HoVaTen: 'Hợp tác xã Thử', LoaiTaiKhoan: 2, IAL: 2 },
};

const SHARED = {
  redirect_uris: [client.redirect],
  post_logout_redirect_uris: [client.after],
  backchannel_logout_uri: client.logout,
  backchannel_logout_session_required: true,
};

const PROFILES = {
  strict: {
    key: ['ec', { namedCurve: 'P-256' }],
    client: {
      ...SHARED,
      client_id: 'bkapp-strict',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
      id_token_signed_response_alg: 'ES256',
      jwks: client.jwks,
    },
    options: {
      clientAuthMethods: ['private_key_jwt'],
      conformIdTokenClaims: true,
      features: { pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true } },
    },
  },
  plain: {
    key: ['rsa', { modulusLength: 2048 }],
    client: {
      ...SHARED,
      client_id: 'bkapp-plain',
      client_secret: client.secret,
      token_endpoint_auth_method: 'client_secret_basic',
      id_token_signed_response_alg: 'RS256',
    },
    options: {
      clientAuthMethods: ['client_secret_basic'],
      conformIdTokenClaims: false,
      features: { pushedAuthorizationRequests: { enabled: false } },
    },
  },
};

// A provider with a key that nobody has seen yet; nobody is signed in.
function provider(issuer, profile) {
  const key = generateKeyPairSync(...profile.key).privateKey.export({ format: 'jwk' });
  return new Provider(issuer, {
    ...profile.options,
    clients: [profile.client],
    jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig' }] },
    cookies: { keys: [randomUUID()] },
    acrValues: ['2'],
    claims: {
      acr: null, auth_time: null, iss: null, sid: null,
      openid: ['sub'],
      profile: ['SoDinhDanh', 'HoVaTen', 'NgayThangNamSinh', 'SoDienThoai', 'MaSoThue', 'LoaiTaiKhoan', 'IAL'],
    },
    findAccount: (ctx, id) => ACCOUNTS[id] && { accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) },
    pkce: { required: () => true },
    interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
    // The library refuses to call addresses of this machine, and here everybody is on it.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    features: {
      ...profile.options.features,
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: (ctx, form) => { ctx.body = form; } },
    },
  });
}

// Whoever login_hint names signs in and agrees at once; without one, somebody says no.
async function decide(issuer, request, response) {
  const { params } = await issuer.interactionDetails(request, response);
  if (!ACCOUNTS[params.login_hint]) {
    await issuer.interactionFinished(request, response, { error: 'access_denied', error_description: 'said no' });
    return;
  }
  const grant = new issuer.Grant({ accountId: params.login_hint, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const login = { accountId: params.login_hint, acr: '2' };
  await issuer.interactionFinished(request, response, { login, consent: { grantId: await grant.save() } });
}

async function serve(profile) {
  let current;
  const server = createServer((request, response) => {
    if (request.url.startsWith('/interaction/')) {
      decide(current, request, response).catch((error) => { console.error(error); response.writeHead(500).end(); });
    } else if (request.url === '/rotate') {
      current = provider(current.issuer, profile);
      response.writeHead(204).end();
    } else {
      current.callback()(request, response);
    }
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  current = provider(`http://127.0.0.1:${server.address().port}`, profile);
  return current.issuer;
}

const issuers = {};
for (const [name, profile] of Object.entries(PROFILES)) issuers[name] = await serve(profile);
console.log(JSON.stringify(issuers));
process.stdin.on('end', () => process.exit()).resume();
