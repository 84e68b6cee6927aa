// The code of what the user did last, as curl, Python and JavaScript.

import { $, copy, parse, say, spaced } from './dom.js';

const WIDTH = 76; // characters of a literal in one line
const at = (path) => new URL(path, location.href).href;
const server = () => at('ws').replace('http', 'ws');
const isGuarded = () => Boolean(document.documentElement.dataset.access); // then calls need a token

/** Returns a text as one word of a POSIX shell. */
export const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Returns a value as a Python literal. */
export function py(value, indent = '') {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value !== 'object' || JSON.isRawJSON?.(value)) return JSON.stringify(value);
  const inner = `${indent}    `;
  const items = (each, deep) => (Array.isArray(each) ? each.map((it) => py(it, deep))
    : Object.entries(each).map(([key, it]) => `${JSON.stringify(key)}: ${py(it, deep)}`));
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const flat = `${open}${items(value, '').join(', ')}${close}`;
  if (indent.length + flat.length <= WIDTH && !flat.includes('\n')) return flat;
  return `${open}\n${items(value, inner).map((it) => `${inner}${it},\n`).join('')}${indent}${close}`;
}

/** Returns a value as a JavaScript literal. */
export function js(value) {
  const flat = JSON.stringify(value);
  if (flat.includes('"__proto__"')) return `JSON.parse(${JSON.stringify(flat)})`; // a literal would set the prototype
  return flat.length <= WIDTH ? spaced(flat) : JSON.stringify(value, null, 2);
}

/** Returns a REST call in each language. `body` is a value, or `{ json }`: text that is JSON already. */
export function rest(method, path, body, json = body === undefined ? undefined : JSON.stringify(body)) {
  return { curl: curl(method, path, json), python: urllib(method, path, json), js: viaFetch(method, path, json) };
}

/** Returns a REST call as a command for a POSIX shell. */
export function curl(method, path, json) {
  const isUsual = method === (json === undefined ? 'GET' : 'POST');
  const words = [`curl ${isUsual ? '' : `-X ${method} `}${quote(at(path))}`];
  if (isGuarded()) words.push('-H "Authorization: Bearer $TOKEN"');
  if (json !== undefined) words.push(`-d ${quote(json)}`);
  return words.join(' \\\n  ');
}

function urllib(method, path, json) {
  const headers = [];
  if (isGuarded()) headers.push('"Authorization": f"Bearer {os.environ[\'TOKEN\']}"');
  const imports = ['import json', ...(isGuarded() ? ['import os'] : []), 'import urllib.request'];
  const parts = [JSON.stringify(at(path)), `method="${method}"`];
  if (json !== undefined) parts.push(`data=json.dumps(${py(parse(json), '    ')}).encode()`);
  if (headers.length) parts.push(`headers={${headers.join(', ')}}`);
  return [...imports, '', 'request = urllib.request.Request(', ...parts.map((it) => `    ${it},`), ')',
    'with urllib.request.urlopen(request) as answer:', '    print(json.load(answer))'].join('\n');
}

function viaFetch(method, path, json) {
  const options = [];
  if (method !== 'GET') options.push(`method: "${method}"`);
  if (isGuarded()) options.push('headers: { Authorization: `Bearer ${TOKEN}` }');
  if (json !== undefined) options.push(`body: JSON.stringify(${js(parse(json))})`);
  const rest = options.length ? `, {\n${options.map((it) => `  ${it},\n`).join('')}}` : '';
  return [...tokenForJs(), `const answer = await fetch(${JSON.stringify(at(path))}${rest});`,
    'console.log(await answer.json());'].join('\n');
}

/** Returns lines that use the clients, with what connects and closes them. `stays`: until it is stopped. */
export function withClient({ python, js: lines, stays = false }) {
  const token = isGuarded() ? ', token=os.environ["TOKEN"]' : '';
  const inner = python.split('\n').map((line) => `        ${line}`);
  return {
    python: ['import asyncio', ...(isGuarded() ? ['import os'] : []), '', 'from broadcast_client import connect', '', '',
      'async def main() -> None:', `    async with connect("${server()}"${token}) as client:`, ...inner, '', '',
      'asyncio.run(main())'].join('\n'),
    js: [`import { connect } from "${at('client.js')}";`, '', ...tokenForJs(),
      `const client = connect("${server()}"${isGuarded() ? ', { token: TOKEN }' : ''});`, lines,
      ...(stays ? [] : ['client.close();'])].join('\n'),
  };
}

function tokenForJs() {
  return isGuarded() ? ['const TOKEN = "YOUR TOKEN";'] : [];
}

/** Returns a publish in each language; `json` is the payload as text, digit for digit. */
export function publishing(topic, payload, json) {
  const body = `{"topic": ${JSON.stringify(topic)}, "payload": ${json}}`;
  return {
    curl: curl('POST', 'publish', body),
    ...withClient({
      python: `await client.publish(${JSON.stringify(topic)}, ${py(payload, '        ')})`,
      js: `await client.publish(${JSON.stringify(topic)}, ${js(payload)});`,
    }),
  };
}

/** Returns a subscription in each language. */
export function subscribing(topic) {
  const name = JSON.stringify(topic);
  const head = isGuarded() ? ' \\\n  -H "Authorization: Bearer $TOKEN"' : '';
  return {
    curl: `curl -N ${quote(at(`events?topic=${encodeURIComponent(topic)}`))}${head}`,
    ...withClient({
      python: `async for item in client.subscribe(${name}):\n    print(item)`,
      js: `client.subscribe(${name}, (item) => console.log(item));`,
      stays: true,
    }),
  };
}

/** The panel that shows the code. */
export class CodePanel {
  #code = {};
  #language = 'curl';

  constructor() {
    for (const it of document.querySelectorAll('[data-language]')) it.onclick = () => this.#choose(it.dataset.language);
    $('copy-code').onclick = () => copy($('copy-code'), $('code-text').textContent, $('code-text'));
  }

  /** Shows the code of what the user did. */
  show(title, code) {
    this.#code = code;
    say($('did'), title);
    this.#draw();
  }

  #choose(language) {
    this.#language = language;
    this.#draw();
  }

  #draw() {
    for (const it of document.querySelectorAll('[data-language]')) it.setAttribute('aria-pressed', it.dataset.language === this.#language);
    $('code-text').dataset.shown = this.#language;
    say($('code-text'), this.#code[this.#language] ?? '');
  }
}
