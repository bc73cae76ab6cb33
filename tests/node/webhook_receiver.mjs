// A receiver of webhooks that this project did not write: verifies with npm's `standardwebhooks`, and writes a
// line of JSON for each request to standard output. Arguments: the port, the secret, `quiet` for no such lines.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const [port, secret, quiet] = process.argv.slice(2);
const webhook = new Webhook(secret);

createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    try {
      const payload = webhook.verify(body, request.headers);
      if (!quiet) console.log(JSON.stringify({ id: request.headers["webhook-id"], payload }));
      response.writeHead(204).end();
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
      response.writeHead(401).end("the signature is wrong");
    }
  });
}).listen(Number(port), "127.0.0.1", () => console.log(JSON.stringify({ listening: true })));
