// Follows a view by a published client of GraphQL subscriptions, until a row has a title. It connects again by itself.
import { createClient as createEvents } from "graphql-sse";
import { createClient as createSocket } from "graphql-ws";
import WebSocket from "ws";

const [address, kind, view, id, title] = process.argv.slice(2);
const again = { retryAttempts: 600, retryWait: () => new Promise((done) => setTimeout(done, 100)) };
const client =
  kind === "ws"
    ? createSocket({ url: address.replace("http", "ws") + "/graphql", webSocketImpl: WebSocket, shouldRetry: () => true, ...again })
    : createEvents({ url: address + "/graphql", retryAttempts: again.retryAttempts, retry: again.retryWait });
const query = `subscription { ${view}_changes { rows { id fields { title } } deleted isReset upToDate } }`;
const rows = new Map();
let began = false;
client.subscribe({ query }, {
  next({ data, errors }) {
    if (errors) throw new Error(JSON.stringify(errors));
    const changed = data[`${view}_changes`];
    if (changed.isReset) rows.clear();
    for (const row of changed.rows) rows.set(row.id, row.fields.title);
    for (const key of changed.deleted) rows.delete(key);
    if (!changed.upToDate) return;
    if (!began) console.log("began");
    began = true;
    if (rows.get(id) !== title) return;
    console.log(JSON.stringify(Object.fromEntries(rows)));
    process.exit(0);
  },
  error(problem) { console.error("error", problem); process.exit(1); },
  complete() { console.error("complete"); process.exit(1); },
});
