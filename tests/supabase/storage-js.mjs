// Records what the official clients send; its output is storage-js.json.
//     npm install @supabase/storage-js@2.109.0 tus-js-client@4.3.1
//     node storage-js.mjs > storage-js.json
import { createServer } from 'node:http';
import { StorageClient } from '@supabase/storage-js';
import * as tus from 'tus-js-client';

const recorded = [];
let length = 0;
const server = createServer((request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const body = Buffer.concat(pieces);
    const headers = { ...request.headers };
    for (const name of ['host', 'connection', 'content-length', 'user-agent', 'accept', 'accept-language',
      'sec-fetch-mode', 'accept-encoding', 'transfer-encoding', 'x-client-info']) delete headers[name];
    const text = body.toString('utf8');
    const is_json = headers['content-type'] === 'application/json';
    recorded.push({ method: request.method, path: request.url, headers,
      body: is_json ? JSON.parse(text) : body.length > 100 ? `${body.length} bytes` : text });
    if (request.url.includes('/upload/resumable')) {
      if (request.method === 'POST') {
        length = 0;
        response.writeHead(201, { location: '/storage/v1/upload/resumable/id', 'tus-resumable': '1.0.0' }).end();
      } else {
        length += body.length;
        response.writeHead(204, { 'upload-offset': String(length), 'tus-resumable': '1.0.0' }).end();
      }
      return;
    }
    const answer = request.url.includes('/object/sign/') ? { signedURL: '/object/sign/x?token=t' }
      : request.url.includes('/object/list/') ? [] : { Id: 'id', Key: 'pictures/x', id: 'id', name: 'x' };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  });
});
server.listen(0, '127.0.0.1', async () => {
  const url = `http://127.0.0.1:${server.address().port}/storage/v1`;
  const headers = { apikey: 'service-role-key', authorization: 'Bearer service-role-key' };
  const bucket = new StorageClient(url, headers).from('pictures');
  const metadata = { blake3: 'HASH', mtime: '1700000000.5' };
  for (const name of ["p/original/plain.jpg", "p/original/with space/a b & c'(1)+@.jpg"]) {
    const options = { contentType: 'image/jpeg', upsert: true, cacheControl: '3600', metadata };
    await bucket.upload(name, Buffer.from('content'), options);
  }
  await bucket.createSignedUrl('p/original/plain.jpg', 7200);
  await bucket.list('p/original', { limit: 1000, offset: 0, sortBy: { column: 'name', order: 'asc' } });
  await bucket.info('p/original/plain.jpg');
  await (await bucket.download('p/original/plain.jpg')).data;
  await bucket.remove(['p/original/plain.jpg']);
  // As https://supabase.com/docs/guides/storage/uploads/resumable-uploads has it.
  await new Promise((onSuccess, onError) => new tus.Upload(Buffer.alloc(6 * 1024 * 1024 + 5), {
    endpoint: `${url}/upload/resumable`,
    headers: { ...headers, 'x-upsert': 'true' },
    metadata: { bucketName: 'pictures', objectName: 'p/original/large.jpg', contentType: 'image/jpeg',
      cacheControl: '3600', metadata: JSON.stringify(metadata) },
    chunkSize: 6 * 1024 * 1024, onSuccess, onError,
  }).start());
  console.log(JSON.stringify({ clients: ['storage-js/2.109.0', 'tus-js-client/4.3.1'], requests: recorded }, null, 1));
  server.close();
});
