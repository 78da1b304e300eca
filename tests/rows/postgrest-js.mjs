// Records what the official client sends for an upsert; its output is postgrest-js.json.
//     npm install @supabase/postgrest-js@2.109.0
//     node postgrest-js.mjs < rows.jsonl > postgrest-js.json
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { PostgrestClient } from '@supabase/postgrest-js';

const rows = readFileSync(0, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (piece) => (body += piece));
  request.on('end', () => {
    const url = new URL(request.url, 'http://localhost');
    const recorded = {
      client: 'postgrest-js/2.109.0',
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
      body: JSON.parse(body),
    };
    for (const name of ['host', 'connection', 'content-length']) delete recorded.headers[name];
    console.log(JSON.stringify(recorded, null, 1));
    response.writeHead(201).end();
    server.close();
  });
});
server.listen(0, async () => {
  // The headers that supabase-js gives to every request.
  const headers = { apikey: 'service-key', Authorization: 'Bearer service-key' };
  const client = new PostgrestClient(`http://localhost:${server.address().port}/rest/v1`, { headers });
  await client.from('device_test').upsert(rows, { onConflict: 'mount_id,folder' });
});
