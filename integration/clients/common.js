// What both clients share: a request that is upgraded, and a script of what to do on its streams.
//
// A client is run as `node CLIENT.js URL PLAN`, PLAN being JSON; what it saw comes out as JSON on one line. It ends
// with 0 whenever the streams were opened, and says on standard error why they were not.

'use strict';

const { URL } = require('node:url');

/** The arguments of this program. */
function asked() {
  const [url, plan] = process.argv.slice(2);
  return { url: new URL(url), plan: JSON.parse(plan) };
}

/** Ends the program with what it saw. */
function tell(seen) {
  process.stdout.write(JSON.stringify(seen) + '\n', () => process.exit(0));
}

/** Ends the program, which did not get as far as its streams. */
function fail(why) {
  process.stderr.write(String((why && why.stack) || why) + '\n', () => process.exit(1));
}

/** As many bytes as a test wants of them, none like its neighbour. */
function pattern(length) {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i += 1) bytes[i] = i % 251;
  return bytes;
}

/** What is to be sent: text as it is, or a number of bytes of the pattern. */
function bytesOf(input) {
  return typeof input === 'number' ? pattern(input) : Buffer.from(input);
}

/** How bytes are told: short ones as text, long ones by their number and whether they are the pattern. */
function toldAs(bytes) {
  if (bytes.length < 4096) return bytes.toString();
  return { length: bytes.length, isPattern: bytes.equals(pattern(bytes.length)) };
}

module.exports = { asked, bytesOf, fail, tell, toldAs };
