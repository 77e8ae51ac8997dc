// An ordinary HTTP/2 server in place of the core: Node's http2 over mutual TLS. Prints where it listens, then one JSON
// line per event. The name of the service decides what it does:
//   echo     sends everything back, and ends when the client has ended
//   speaker  speaks first and ends at once; counts what the client still sends
//   breaker  resets the stream with CONNECT_ERROR after the first bytes
//   denied   answers 403
// Usage: core_standin.js CERTIFICATE KEY CA
'use strict';
const fs = require('fs');
const http2 = require('http2');

const [certificate, key, ca] = process.argv.slice(2).map((file) => fs.readFileSync(file));
let streams = 0;

function say(event) {
    process.stdout.write(JSON.stringify(event) + '\n');
}

const server = http2.createSecureServer({
    cert: certificate, key, ca, requestCert: true, rejectUnauthorized: true, allowHTTP1: false,
    settings: {initialWindowSize: 131072},
});

server.on('session', (session) => {
    const peer = session.socket.getPeerCertificate();
    say({event: 'trunk', name: peer.subject.CN, alpn: session.socket.alpnProtocol});
    session.on('error', (error) => say({event: 'trunk-error', text: error.message}));
});

server.on('stream', (stream, headers) => {
    const number = ++streams;
    let bytes = 0;
    // Pseudo-header fields and others, in the order in which they came.
    say({event: 'stream', stream: number, headers: Object.assign({}, headers)});
    stream.on('error', (error) => say({event: 'stream-error', stream: number, text: error.message}));
    stream.on('close', () => say({event: 'close', stream: number, bytes, code: stream.rstCode}));
    stream.on('end', () => say({event: 'end', stream: number, bytes}));
    stream.on('data', (data) => { bytes += data.length; });
    switch (headers[':authority']) {
    case 'echo':
        stream.respond({':status': 200});
        stream.pipe(stream);
        break;
    case 'speaker':
        stream.respond({':status': 200});
        stream.end('first word and last word');
        break;
    case 'breaker':
        stream.respond({':status': 200});
        stream.once('data', () => {
            stream._final = (done) => done(); // no END_STREAM, which Node sends ahead of RST_STREAM otherwise
            stream.close(http2.constants.NGHTTP2_CONNECT_ERROR);
        });
        break;
    default:
        stream.respond({':status': 403});
        stream.end('not for you\n');
    }
});

server.listen(0, '127.0.0.1', () => {
    process.stdout.write(`listening on 127.0.0.1:${server.address().port}\n`);
});
process.on('SIGTERM', () => process.exit(0));
