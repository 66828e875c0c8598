// Follows a view over Socket.IO, changes a row, and ends when the change has come.
import { io } from "socket.io-client";

const [address, view, id] = process.argv.slice(2);
const path = new URL(address).pathname.replace(/\/$/, "") + "/socket.io/";
const socket = io(new URL(address).origin, { path, transports: ["websocket"] });
const rows = new Map();
socket.on("rpc", (message, taken) => {
  taken?.();
  if (message.id === 9) console.log(JSON.stringify({ written: message.result.id }));
  if (message.method !== "rows") return;
  for (const { key, value } of message.params.messages) if (value) rows.set(key, value.fields);
  if (!message.params.upToDate) return;
  if (rows.get(id).isDone) {
    console.log(JSON.stringify({ rows: Object.fromEntries(rows) }));
    socket.close();
  } else {
    socket.emit("rpc", { jsonrpc: "2.0", id: 9, method: "update", params: { view, id, fields: { isDone: true } } });
  }
});
socket.on("connect", () => socket.emit("rpc", { jsonrpc: "2.0", id: 1, method: "subscribe", params: { view } }));
socket.on("connect_error", (error) => { console.error(error.message); process.exit(1); });
