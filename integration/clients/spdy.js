// A remote command, or ports, over SPDY/3.1 by npm's spdy-transport, which counts windows as SPDY has it.
//
// PLAN of a command: { protocols: [..], streams: [..], input: text or number, sizes: [[width, height]..] }
// PLAN of ports: { ports: [..], input: text or number }

'use strict';

const http = require('node:http');
const transport = require('spdy-transport');
const { asked, bytesOf, fail, tell, toldAs } = require('./common.js');

const { url, plan } = asked();

/** Opens a stream, and gives it once the server has accepted it. */
function open(connection, headers) {
  return new Promise((resolve, reject) => {
    // A GET would have its direction ended at once.
    const stream = connection.request({ method: 'POST', path: '/', host: url.host, headers });
    stream.on('response', () => resolve(stream));
    stream.on('error', reject);
  });
}

/** All that comes on a stream. */
function all(stream) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    // One that is reset closes without an end.
    for (const event of ['end', 'close']) stream.on(event, () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
  });
}

async function command(connection) {
  const streams = {};
  for (const streamtype of ['error', ...plan.streams]) {
    streams[streamtype] = await open(connection, { streamtype });
  }
  const { error, stdin, stdout, stderr, resize } = streams;
  const reads = [error, stdout, stderr].map((stream) => (stream ? all(stream) : Buffer.alloc(0)));
  for (const [Width, Height] of plan.sizes || []) {
    resize.write(JSON.stringify({ Width, Height }));
  }
  if (stdin) stdin.end(bytesOf(plan.input));
  const [status, out, err] = await Promise.all(reads);
  return { status: status.toString(), stdout: toldAs(out), stderr: toldAs(err) };
}

async function port(connection, number, id) {
  const headers = { port: String(number), requestid: String(id) };
  const error = await open(connection, { ...headers, streamtype: 'error' });
  error.end();
  const data = await open(connection, { ...headers, streamtype: 'data' });
  const said = all(error);
  // What is written to one that is reset meanwhile is an error of its own.
  const came = all(data).catch(() => Buffer.alloc(0));
  data.end(bytesOf(plan.input));
  const [failure, bytes] = await Promise.all([said, came]);
  return { failure: failure.toString(), bytes: toldAs(bytes) };
}

const request = http.request(url, {
  method: 'POST',
  headers: {
    Connection: 'Upgrade',
    Upgrade: 'SPDY/3.1',
    'X-Stream-Protocol-Version': plan.protocols || ['portforward.k8s.io'],
  },
});
request.on('error', fail);
request.on('response', (response) => fail(`it is not upgraded: ${response.statusCode}`));
request.on('upgrade', (response, socket, head) => {
  if (head.length > 0) socket.unshift(head);
  const connection = transport.connection.create(socket, { protocol: 'spdy', isServer: false });
  connection.on('error', fail);
  connection.start(3.1);
  const protocol = response.headers['x-stream-protocol-version'];
  const work = plan.ports === undefined
    ? command(connection)
    : Promise.all(plan.ports.map((number, id) => port(connection, number, id)));
  work.then((seen) => tell(plan.ports === undefined ? { protocol, ...seen } : { protocol, ports: seen }))
    .catch(fail);
});
request.end();
