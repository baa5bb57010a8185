// The outside peers of tests/payments: the npm packages vnpay and vietnam-qr-pay, which share no code with ours.
//
// stdin is a JSON list of questions, stdout the list of their answers, in the same order.  `account` is
// {tmnCode, secret}, `query` a raw query string, amounts are đồng:
//
//   {do: 'payUrl', account, data}              the address that vnpay signs for the fields `data`
//   {do: 'ipn' | 'cameBack', account, query}   what vnpay makes of a message, {isVerified, isSuccess, …}
//   {do: 'queryDr' | 'refund', account, data, answer}
//                                              {sent, made}: what vnpay posts to VNPAY, and what it makes of `answer`
//   {do: 'parseQr', text}                      the fields of a QR code, {isValid, …}
//   {do: 'buildQr', bankBin, bankNumber, amount, purpose, service}
//                                              the text of one; the last three may be left out

import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import qr from 'vietnam-qr-pay';
import { VNPay } from 'vnpay';

function vnpay({ tmnCode, secret }, host = 'https://sandbox.vnpayment.vn') {
  return new VNPay({
    tmnCode, secureSecret: secret, vnpayHost: host, queryDrAndRefundHost: host, hashAlgorithm: 'SHA512',
  });
}

const fields = (query) => Object.fromEntries(new URLSearchParams(query));

// The library fetches the answer itself, so it is served to it.
async function called(method, { account, data, answer }) {
  let sent;
  const server = createServer(async (request, response) => {
    sent = await json(request);
    response.setHeader('Content-Type', 'application/json').end(JSON.stringify(answer));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const made = await vnpay(account, `http://127.0.0.1:${server.address().port}`)[method](data);
  server.close();
  server.closeAllConnections();
  return { sent, made };
}

const ANSWERS = {
  payUrl: ({ account, data }) => vnpay(account).buildPaymentUrl(data),
  ipn: ({ account, query }) => vnpay(account).verifyIpnCall(fields(query)),
  cameBack: ({ account, query }) => vnpay(account).verifyReturnUrl(fields(query)),
  queryDr: (question) => called('queryDr', question),
  refund: (question) => called('refund', question),
  parseQr: ({ text }) => new qr.QRPay(text),
  buildQr: ({ do: _, ...options }) => qr.QRPay.initVietQR(options).build(),
};

const answers = [];
for (const question of await json(process.stdin)) answers.push(await ANSWERS[question.do](question));
console.log(JSON.stringify(answers));
