// A client of a Supabase project that knows nothing of dynos-sync: supabase-js, one command a line, one answer a line.
// stdin:  {"signUp": {email, password}} | {"signIn": {…}} | {"insert"|"upsert": ROWS, "into": TABLE}
//         {"update": VALUES, "in": TABLE, "where": {COLUMN: VALUE}} | {"delete": {COLUMN: VALUE}, "from": TABLE}
//         {"select": COLUMNS, "from": TABLE}
// stdout: {"data": …, "error": {code, message} | null}
import { createRequire } from "node:module";
import readline from "node:readline";

const { createClient } = createRequire(`${process.env.DYNOS_TEST_NODE_MODULES}/`)("@supabase/supabase-js");
const { DYNOS_TEST_SUPABASE_URL: url, DYNOS_TEST_SUPABASE_ANON_KEY: key } = process.env;
const supabase = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });

const session = ({ data, error }) => ({ data: data.session && { user: data.user.id, token: data.session.access_token }, error });

function run(command) {
  if (command.signUp) return supabase.auth.signUp(command.signUp).then(session);
  if (command.signIn) return supabase.auth.signInWithPassword(command.signIn).then(session);
  if (command.insert) return supabase.from(command.into).insert(command.insert).select();
  if (command.upsert) return supabase.from(command.into).upsert(command.upsert).select();
  if (command.update) return supabase.from(command.in).update(command.update).match(command.where).select();
  if (command.delete) return supabase.from(command.from).delete().match(command.delete).select();
  return supabase.from(command.from).select(command.select);
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { data, error } = await run(JSON.parse(line));
  console.log(JSON.stringify({ data, error: error && { code: error.code, message: error.message } }));
}
