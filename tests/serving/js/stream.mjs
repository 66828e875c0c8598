// Materializes a view by the published clients of Durable Streams, until a row has a title.
import { stream } from "@durable-streams/client";
import { MaterializedState, isChangeEvent } from "@durable-streams/state";

const [url, live, view, id, title] = process.argv.slice(2);
const state = new MaterializedState();
const answer = await stream({ url, offset: "-1", live });
console.log("began");
answer.subscribeJson((batch) => {
  for (const event of batch.items) if (isChangeEvent(event)) state.apply(event);
  if (state.get(view, id)?.fields.title !== title) return;
  const rows = [...state.getType(view)].map(([key, value]) => [key, value.fields]);
  console.log(JSON.stringify(Object.fromEntries(rows)));
  process.exit(0);
});
