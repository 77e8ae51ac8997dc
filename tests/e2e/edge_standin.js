// An ordinary HTTP/2 client in place of the edge: Node's http2 over mutual TLS. Carries out the requests named, one
// after the other on one connection, and prints one JSON line for each: what was answered and how the stream ended.
//   echo:SERVICE      CONNECT, waits for the answer, sends a megabyte, half-closes, reads to the end
//   early:SERVICE     CONNECT, and sends before the answer has come
//   reset:SERVICE     CONNECT, sends, resets the stream with CANCEL
//   get, post         ordinary requests
// Usage: edge_standin.js HOST:PORT CERTIFICATE KEY CA REQUEST...   (CERTIFICATE and KEY "-": none)
'use strict';
const fs = require('fs');
const http2 = require('http2');

const [address, certificate, key, ca, ...requests] = process.argv.slice(2);
const options = {ca: fs.readFileSync(ca), servername: 'localhost'};
if (certificate !== '-') {
    options.cert = fs.readFileSync(certificate);
    options.key = fs.readFileSync(key);
}
const MEGABYTE = Buffer.alloc(1 << 20, 'one megabyte of text ');

function say(result) {
    process.stdout.write(JSON.stringify(result) + '\n');
}

const session = http2.connect(`https://${address}`, options);
session.on('error', (error) => {
    say({event: 'trunk-error', text: error.message, code: error.code});
    process.exit(1);
});

// Resolves with all that came once the stream is over.
function collect(stream) {
    const result = {status: null, body: Buffer.alloc(0), code: null, error: null, ended: false};
    stream.on('response', (headers) => { result.status = headers[':status']; });
    stream.on('data', (data) => { result.body = Buffer.concat([result.body, data]); });
    stream.on('end', () => {
        result.ended = true;
        if (result.status !== 200) {
            stream.destroy(); // what is still to be sent is not wanted: Node would wait for it all the same
        }
    });
    stream.on('error', (error) => { result.error = error.message; });
    return new Promise((resolve) => stream.on('close', () => {
        result.code = stream.rstCode;
        resolve(result);
    }));
}

function connect(service) {
    return session.request({':method': 'CONNECT', ':authority': service});
}

const scenarios = {
    async echo(service) {
        const stream = connect(service);
        const over = collect(stream);
        stream.on('response', (headers) => {
            if (headers[':status'] === 200) {
                stream.end(MEGABYTE);
            }
        });
        return over;
    },
    async early(service) {
        const stream = connect(service);
        const over = collect(stream);
        stream.end(MEGABYTE);
        return over;
    },
    async reset(service) {
        const stream = connect(service);
        const over = collect(stream);
        stream.write('a few bytes');
        stream.once('data', () => {
            stream._final = (done) => done(); // no END_STREAM before RST_STREAM
            stream.close(http2.constants.NGHTTP2_CANCEL);
        });
        return over;
    },
    async get() {
        return collect(session.request({':method': 'GET', ':path': '/'}));
    },
    async post() {
        const stream = session.request({':method': 'POST', ':path': '/form'});
        const over = collect(stream);
        stream.end('name=value');
        return over;
    },
};

(async () => {
    for (const request of requests) {
        const [name, service] = request.split(':');
        const result = await scenarios[name](service);
        const same = result.body.equals(MEGABYTE);
        say({
            request, status: result.status, code: result.code, error: result.error, ended: result.ended,
            bytes: result.body.length, same, body: same ? '' : result.body.toString().slice(0, 200),
        });
    }
    session.close();
})();
