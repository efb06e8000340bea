// Receives Segue's webhooks with nothing but Node: WEBHOOK_SECRET=whsec_… node receiver.mjs [PORT]
import {createHmac, timingSafeEqual} from "node:crypto";
import {createServer} from "node:http";

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const seen = new Set(); // in your database, in the transaction that does the work

function isGenuine(headers, body) {
  const {"webhook-id": id, "webhook-timestamp": time, "webhook-signature": signatures} = headers;
  if (!id || !signatures || !(Math.abs(Date.now() / 1000 - Number(time)) < 300)) return false;
  const wanted = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest();
  return signatures.split(" ").some(one => {
    const [version, text = ""] = one.split(","), given = Buffer.from(text, "base64");
    return version === "v1" && given.length === wanted.length && timingSafeEqual(given, wanted);
  });
}

createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  if (!isGenuine(request.headers, body)) return response.writeHead(400).end();
  const {type, data} = JSON.parse(body);
  if (!seen.has(request.headers["webhook-id"])) { // the same change may come twice, with the same id
    seen.add(request.headers["webhook-id"]);
    if (type !== "segment.test") console.log(data.personId, data.change, data.segment, data.before, "→", data.after);
  }
  response.writeHead(204).end();
}).listen(Number(process.argv[2] ?? 9000), "127.0.0.1");
