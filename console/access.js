// The rules of rights, as in hub/access.py; tests/vectors/access.json has the cases of both.

export const VERBS = ['subscribe', 'publish', 'manage'];
const MAX_PATTERNS = 100; // of a token

/** Returns whether a pattern matches a topic. Throws if it is not valid. Without a token the subject is null. */
function matchesPattern(pattern, topic, separator, subject) {
  if (pattern === '#' || pattern === '*') return true;
  let wanted = pattern.split(separator);
  for (const [place, level] of wanted.entries()) {
    const isLast = place === wanted.length - 1;
    if (level !== '+' && level.includes('+')) throw new Error(`'${pattern}': '+' must be a whole level`);
    if (level.includes('#') && !(level === '#' && isLast)) throw new Error(`'${pattern}': '#' must be the whole last level`);
  }
  if (pattern.includes('{sub}')) {
    if (subject === null) throw new Error(`'${pattern}': {sub} has no meaning without a token`);
    if (subject.includes(separator) || /[+#*{}]/.test(subject)) return false;
    wanted = wanted.map((level) => level.replaceAll('{sub}', () => subject));
  }
  const levels = topic.split(separator);
  const isDeep = wanted.at(-1) === '#';
  if (isDeep) wanted.pop();
  if (isDeep ? levels.length < wanted.length : levels.length !== wanted.length) return false;
  return wanted.every((level, place) => level === '+' || level === levels[place]);
}

/** Returns the first of the patterns that matches a topic, undefined if there is none. Throws if any is not valid. */
export function findPattern(patterns, topic, separator, subject = null) {
  if (patterns.length > MAX_PATTERNS) throw new Error(`at most ${MAX_PATTERNS} patterns are allowed`);
  return patterns.filter((pattern) => matchesPattern(pattern, topic, separator, subject))[0];
}

/** Returns the pattern by which a token's claims allow a verb on a topic. Throws if a claim is not valid. */
export function findRule(claims, verb, topic, separator) {
  const { sub, subscribe = [], publish = [], manage = [] } = claims;
  const lists = { subscribe, publish, manage };
  if (typeof sub !== 'string' || !sub || new TextEncoder().encode(sub).length > 255) {
    throw new Error('sub must be a string of 1 to 255 bytes of UTF-8');
  }
  for (const [name, list] of Object.entries(lists)) {
    if (!Array.isArray(list) || !list.every((it) => typeof it === 'string')) throw new Error(`${name} must be a list of patterns`);
  }
  const found = VERBS.map((name) => findPattern(lists[name], topic, separator, sub)); // all, since each must be valid
  findPattern(Object.values(lists).flat(), topic, separator, sub); // their number
  return found[VERBS.indexOf(verb)];
}

/** Returns the claims of a token, whose signature is not checked; null if it is not a token. */
export function claimsOf(text) {
  try {
    const [, part] = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(text);
    const bytes = Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')), (it) => it.charCodeAt(0));
    return Object(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch {
    return null;
  }
}

/** Returns a JWT (RFC 7519), signed by HS256. */
export async function hs256(secret, claims) {
  const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const encoder = new TextEncoder();
  const key = await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const text = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => base64(encoder.encode(JSON.stringify(part)))).join('.');
  return `${text}.${base64(new Uint8Array(await crypto.subtle.sign('HMAC', key, encoder.encode(text))))}`;
}
