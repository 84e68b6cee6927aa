// Calls of the REST API.

import { parse } from './dom.js';

const ANSWER_WITHIN = 5_000; // ms

/** A call that was refused, or got no answer (status 0). The message is a sentence for people. */
export class CallError extends Error {
  constructor(status, message, { retryAfter = null, body = null } = {}) {
    super(message);
    this.name = 'CallError';
    this.status = status;
    this.retryAfter = retryAfter; // in seconds, if the server says when the same may succeed
    this.body = body; // the answer's JSON
  }
}

/** Calls a path of the server and returns the answer's JSON, or null if it is empty. Throws a CallError. */
export async function call(url, method, body, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { method, headers, cache: 'no-store', signal: AbortSignal.timeout(ANSWER_WITHIN) };
  if (body !== undefined) options.body = JSON.stringify(body);
  let answer, text;
  try {
    answer = await fetch(url, options);
    text = await answer.text();
  } catch (error) {
    const why = error.name === 'TimeoutError' ? `no answer within ${ANSWER_WITHIN / 1_000} s` : 'the server is out of reach';
    throw new CallError(0, `No answer: ${why}.`);
  }
  let fields = null;
  try {
    fields = text ? parse(text) : null;
  } catch { // a proxy's page
    throw new CallError(answer.status, `HTTP ${answer.status}, and the answer is not JSON.`);
  }
  if (answer.ok) return fields;
  const retryAfter = Number(answer.headers.get('Retry-After')) || null;
  throw new CallError(answer.status, fields?.error ?? `HTTP ${answer.status}`, { retryAfter, body: fields });
}
