// What Toxiproxy's client for Node.js can do, done to trunkline-chaos. Arguments: the API's URL, an upstream address.
const assert = require("node:assert");
const { Toxiproxy } = require("toxiproxy-node-client");

async function main(url, upstream) {
    const toxiproxy = new Toxiproxy(url);
    assert.match(await toxiproxy.getVersion(), /\d+\.\d+/);
    const proxy = await toxiproxy.createProxy({ name: "one", listen: "127.0.0.1:0", upstream });
    assert.strictEqual(proxy.enabled, true);
    await assert.rejects(toxiproxy.createProxy({ name: "one", listen: "127.0.0.1:0", upstream }), /409/);
    const made = await toxiproxy.populate([{ name: "two", listen: "127.0.0.1:0", upstream }]);
    assert.strictEqual(made.two.upstream, upstream);
    assert.deepStrictEqual(Object.keys(await toxiproxy.getAll()), ["one", "two"]);

    const toxic = await proxy.addToxic({
        name: "lag", type: "latency", stream: "upstream", toxicity: 0.5, attributes: { latency: 100, jitter: 10 },
    });
    assert.strictEqual(toxic.toxicity, 0.5);
    const changed = await toxic.update({ ...toxic.toJson(), toxicity: 1, attributes: { latency: 200, jitter: 0 } });
    assert.deepStrictEqual([changed.toxicity, changed.attributes.latency], [1, 200]);
    assert.strictEqual((await proxy.getToxic("lag")).attributes.latency, 200);
    await toxic.remove();
    await assert.rejects(proxy.getToxic("lag"), /404/);
    for (const [type, attributes] of Object.entries({
        bandwidth: { rate: 10 }, slow_close: { delay: 10 }, timeout: { timeout: 10 }, reset_peer: { timeout: 10 },
        slicer: { average_size: 10, size_variation: 5, delay: 10 }, limit_data: { bytes: 10 },
    })) {
        const added = await proxy.addToxic({ name: type, type, stream: "downstream", toxicity: 1, attributes });
        for (const [key, value] of Object.entries(attributes)) {
            assert.strictEqual(added.attributes[key], value);
        }
    }
    assert.strictEqual((await proxy.update({ ...proxy.toJson(), enabled: false })).enabled, false);
    await toxiproxy.reset();
    const again = await toxiproxy.get("one");
    assert.strictEqual(again.enabled, true);
    await assert.rejects(again.getToxic("slicer"), /404/);
    await again.remove();
    await made.two.remove();
    console.log("all calls work");
}

main(...process.argv.slice(2)).catch((error) => {
    console.error(error);
    process.exit(1);
});
