// Stands where Supabase's API gateway stands: one base URL, the apikey check, two upstreams.
//   /rest/v1/* -> PostgREST, prefix removed      /auth/v1/* -> the auth server
// usage: API_KEYS="ANON SERVICE" node gateway.mjs REST-PORT AUTH-PORT PORT-FILE
// Listens on a free loopback port and writes its number to PORT-FILE.
import { renameSync, writeFileSync } from "node:fs";
import http from "node:http";

const [rest, auth, portFile] = process.argv.slice(2);
const ports = { rest, auth };
const keys = process.env.API_KEYS.split(" ");
// headers that concern one connection only
const local = ["connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

function answer(res, status, body) {
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify(body));
}

function passedOn(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !local.includes(name)));
}

function handle(req, res) {
  const service = req.url.match(/^\/(rest|auth)\/v1(?=[/?]|$)/)?.[1];
  if (!service) return answer(res, 404, { message: "no Route matched with those values" });

  const key = req.headers.apikey;
  if (!key) return answer(res, 401, { message: "No API key found in request", hint: "No `apikey` request header or url param was found." });
  if (!keys.includes(key)) return answer(res, 401, { message: "Invalid API key", hint: "Double check your Supabase `anon` or `service_role` API key." });

  const headers = passedOn(req.headers);
  headers.authorization ??= `Bearer ${key}`;
  if (req.headers["transfer-encoding"]) headers["transfer-encoding"] = "chunked";
  const path = service === "auth" ? req.url : req.url.slice("/rest/v1".length).replace(/^(?!\/)/, "/");
  const upstream = http.request({ host: "127.0.0.1", port: ports[service], method: req.method, path, headers, agent: false });
  upstream.on("response", (reply) => {
    res.writeHead(reply.statusCode, passedOn(reply.headers));
    reply.on("error", () => res.destroy());
    reply.pipe(res);
  });
  upstream.on("error", (error) => {
    if (!res.destroyed) console.error(`${req.method} ${service}: ${error.message}`);
    if (res.headersSent) res.destroy();
    else answer(res, 502, { message: "An invalid response was received from the upstream server" });
  });
  res.on("close", () => upstream.destroy());
  // Whole, not piped: PostgREST may answer before it has read everything, and what is still being written then breaks.
  const parts = [];
  req.on("data", (part) => parts.push(part));
  req.on("end", () => upstream.end(Buffer.concat(parts)));
}

const server = http.createServer({ keepAliveTimeout: 75_000, requestTimeout: 0 }, handle);
server.listen(0, "127.0.0.1", () => {
  writeFileSync(`${portFile}.new`, String(server.address().port));
  renameSync(`${portFile}.new`, portFile);
});
