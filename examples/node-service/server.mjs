// SPDX-License-Identifier: GPL-3.0-or-later
// A service that keeps the contract of docs/any-service.md, with Node.js and nothing else: it serves on descriptor 3,
// answers health and readiness from memory, writes one JSON line for each request, and at SIGTERM stops accepting and
// finishes what it has.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const SERVICE = 'hello';
const STOP_SECONDS = 20;
const MAX_BODY_BYTES = 1 << 20;
const REQUEST_ID = /^[A-Za-z0-9._-]{8,128}$/;

const release = JSON.parse(readFileSync(new URL('./release.json', import.meta.url), 'utf8'));
const label = `${release.version}+${release.digest.slice(0, 12)}`;
const environment = process.env.PHARMA_ENV ?? 'prod';
const runId = `process-${randomBytes(8).toString('hex')}`;
let stopping = false;

function log(level, msg, meta = {}, request = {}) {
  const line = { ts: new Date().toISOString(), level, service: SERVICE, env: environment, requestId: runId, ...request, msg, meta };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function uptimeSec() {
  return Math.floor(process.uptime());
}

// Route templates, never raw paths: what a client writes into a path does not belong into a log.
const ROUTES = {
  'GET /health/live': () => [200, { status: 'ok', uptimeSec: uptimeSec() }],
  'GET /health/ready': () => [
    stopping ? 503 : 200,
    { status: stopping ? 'fail' : 'ok', uptimeSec: uptimeSec(), release: label },
  ],
  'GET /hello': () => [200, { greeting: 'Bom dia', release: label }],
  'POST /length': (body) => [200, { bytes: body.length, release: label }],
};

async function bodyOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function answer(request, route) {
  const body = await bodyOf(request);
  if (body === null) return [413, { status: 413, code: 'BODY_TOO_LARGE', title: 'The body is too large' }];
  if (!(route in ROUTES)) return [404, { status: 404, code: 'NOT_FOUND', title: 'There is no such resource' }];
  return ROUTES[route](body);
}

const server = createServer(async (request, response) => {
  const began = process.hrtime.bigint();
  const given = request.headers['x-request-id'];
  const requestId = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomBytes(16).toString('hex');
  const wanted = `${request.method} ${request.url.split('?', 1)[0]}`;
  const route = wanted in ROUTES ? wanted : `${request.method} <unmatched>`;
  let status = 500;
  let document = { status, code: 'INTERNAL', title: 'The service failed' };
  let error;
  try {
    [status, document] = await answer(request, route);
  } catch (caught) {
    // The name of the error and no more: its text may hold data of the request.
    error = { code: 'INTERNAL', type: caught.name, message: 'see type' };
  }
  const problem = status >= 400 && !route.startsWith('GET /health/');
  const body = JSON.stringify(problem ? { type: 'about:blank', ...document, requestId } : document);
  response.on('close', () => {
    const durationMs = Number(process.hrtime.bigint() - began) / 1e6;
    const about = error ? { requestId, route, error } : { requestId, route };
    log(status >= 500 ? 'error' : status >= 400 ? 'warn' : 'info', 'request_completed',
      { status: response.writableFinished ? status : 499, durationMs: Math.round(durationMs * 100) / 100, release: label }, about);
  });
  response.writeHead(status, {
    'content-type': problem ? 'application/problem+json' : 'application/json',
    'content-length': Buffer.byteLength(body),
    'x-request-id': requestId,
    // A kept connection would be cut at the next stop; the proxy opens one for each request anyway.
    connection: 'close',
  });
  response.end(body);
});

process.on('SIGTERM', () => {
  if (stopping) return;
  stopping = true;
  log('info', 'service_stopping', { signal: 'SIGTERM' });
  // Connections that wait in the socket's queue are left to the process that comes next.
  server.close(() => {
    log('info', 'service_stopped', { uptimeSec: uptimeSec() });
    process.exit(0);
  });
  setTimeout(() => process.exit(1), STOP_SECONDS * 1000).unref();
});

server.listen({ fd: 3 }, () => log('info', 'service_ready', { release: label }));
