// index.mjs: what a test imports. `import assert from 'node:assert/strict'; import { test, startPeal, … } from './lib/index.mjs';`
export { defer, keepLog, slow, test } from './test.mjs';
export { once, sleep, waitFor, within } from './wait.mjs';
export { descendants, freePort, isAlive, processInfo, processesMarked, startProcess, temporaryFolder } from './process.mjs';
export { parseAddress, parseLogLine, pealBinary, startPeal } from './peal.mjs';
export { fetchText, httpRequest } from './http.mjs';
export { parseMetrics } from './metrics.mjs';
export { recordPublishes, redisClient, startRedis } from './redis.mjs';
export { startNodeServer } from './node-server.mjs';
export { OP, closePayload, frame, rawConnect, rawWebSocket, readResponse, resetSocket, upgradeRequest } from './raw.mjs';
export { ask, collect, ioClient, ioClients, wsClient } from './clients.mjs';
export { startForwarder } from './forwarder.mjs';
export { startBrowser } from './browser.mjs';
