// A remote command over WebSocket by npm's ws, as docs of Kubernetes have `v5.channel.k8s.io`.
//
// PLAN: { protocols: [..], sizes: [[width, height]..], input: text or number, close: bool, until: text }
// `until` holds the input back until the output has that text in it.

'use strict';

const WebSocket = require('ws');
const { asked, bytesOf, fail, tell, toldAs } = require('./common.js');

const [STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE] = [0, 1, 2, 3, 4, 255];
const CHUNK = 32 * 1024;

const { url, plan } = asked();
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
const socket = new WebSocket(url, plan.protocols, { handshakeTimeout: 10000 });
const channels = { [STDOUT]: [], [STDERR]: [], [ERROR]: [] };
let pings = 0;
let hasSent = false;

function send(channel, bytes) {
  socket.send(Buffer.concat([Buffer.from([channel]), bytes]));
}

function sendInput() {
  if (hasSent || plan.input === undefined) return;
  const text = Buffer.concat(channels[STDOUT]).toString();
  if (plan.until !== undefined && !text.includes(plan.until)) return;
  hasSent = true;
  const input = bytesOf(plan.input);
  for (let at = 0; at < input.length; at += CHUNK) send(STDIN, input.subarray(at, at + CHUNK));
  if (plan.close) send(CLOSE, Buffer.from([STDIN]));
}

socket.on('open', () => {
  for (const [Width, Height] of plan.sizes || []) {
    send(RESIZE, Buffer.from(JSON.stringify({ Width, Height })));
  }
  sendInput();
});
socket.on('ping', () => { pings += 1; });
socket.on('message', (message, isBinary) => {
  if (!isBinary) return fail('a text message');
  const channel = channels[message[0]];
  if (channel === undefined) return fail(`a message on channel ${message[0]}`);
  channel.push(message.subarray(1));
  return sendInput();
});
socket.on('error', fail);
socket.on('close', (code) => {
  const [stdout, stderr, error] =
    [STDOUT, STDERR, ERROR].map((number) => Buffer.concat(channels[number]));
  const status = error.length > 0 ? JSON.parse(error.toString()) : null;
  const protocol = socket.protocol;
  tell({ protocol, code, stdout: toldAs(stdout), stderr: toldAs(stderr), status, pings });
});
