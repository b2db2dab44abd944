// Prints an API key of a role: a token signed with the secret of the project.
// usage: SECRET=… node api-key.mjs anon|service_role
import { createHmac } from "node:crypto";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const iat = Math.floor(Date.now() / 1000);
const claims = { iss: "supabase", role: process.argv[2], iat, exp: iat + 10 * 365 * 86_400 };
const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
console.log(`${text}.${createHmac("sha256", process.env.SECRET).update(text).digest("base64url")}`);
