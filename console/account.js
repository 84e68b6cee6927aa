// The dialog "Settings": the name of the connection, the token, and what it allows.
// The token stays in this tab: in sessionStorage, and in a header of each request that the page makes.

import { VERBS, claimsOf, findPattern, findRule, hs256 } from './access.js';
import { quote } from './code.js';
import { $, copy, say } from './dom.js';

const canSign = Boolean(globalThis.crypto?.subtle); // only on https:// and localhost

/** Sets a text, and whether it is about something wrong. */
function tell(id, text, bad) {
  say($(id), text);
  if (bad !== undefined) $(id).classList.toggle('bad', bad);
}

export class Account {
  #app;
  #access;
  #session;

  constructor(app) {
    this.#app = app;
    this.#access = app.access;
    this.#session = app.session;
    $('name').value = this.#session.name;
    $('close-settings').onclick = () => $('settings').close();
    $('everybody').hidden = this.#access !== null;
    this.#session.on('state', () => this.#drawConnection());
    const forms = { connection: () => this.#toggle() };
    if (this.#access) Object.assign(forms, this.#prepareAccess());
    for (const [id, act] of Object.entries(forms)) $(id).onsubmit = (event) => { event.preventDefault(); act(); };
    this.#drawConnection();
  }

  open() {
    $('settings').showModal();
  }

  #toggle() {
    this.#session.name = $('name').value;
    if (this.#session.isIdle) this.#session.start();
    else this.#session.stop();
  }

  #drawConnection() {
    const { isIdle } = this.#session;
    say($('toggle'), isIdle ? 'Connect' : 'Disconnect');
    $('toggle').classList.toggle('primary', isIdle);
    $('name').readOnly = !isIdle;
  }

  // ---- Access

  #prepareAccess() {
    $('access').hidden = false;
    $('maker').hidden = !this.#access.signs;
    $('signing').hidden = $('sign').hidden = !canSign;
    $('elsewhere').hidden = canSign;
    $('sign-out').onclick = () => { this.#signIn(''); $('token').focus(); };
    $('token').oninput = $('asked').oninput = $('verb').oninput = () => this.#ask();
    $('make').oninput = () => this.#command();
    $('copy-new').onclick = () => { this.#reveal('new', true); copy($('copy-new'), $('new').value); };
    for (const it of document.querySelectorAll('[data-shows]')) it.onclick = () => this.#reveal(it.dataset.shows);
    this.#session.on('state', () => {
      const { name } = this.#session.state;
      if (this.#session.token && (name === 'waiting' || name === 'refused')) this.#judge(); // says why it was refused
    });
    this.#session.on('expires', () => tell('notice', 'This token ends soon. Use another one to stay connected.'));
    this.#command();
    $('token').value = this.#session.token;
    this.#standing();
    return {
      'sign-in': () => this.#signIn($('token').value.trim()),
      ask: () => this.#ask(),
      make: () => canSign && this.#make(),
      made: () => this.#signIn($('new').value),
    };
  }

  #signIn(text) {
    $('token').value = text;
    this.#ask();
    tell('notice', '');
    if (text && !claimsOf(text)) return tell('notice', 'This is not a token. API keys are for back ends.');
    try { sessionStorage.setItem('token', text); } catch { /* the browser keeps nothing for this page: neither do we */ }
    this.#session.signIn(text);
    this.#standing();
  }

  #standing() {
    const { token } = this.#session;
    tell('standing', token ? 'Asking the server…' : this.#whatAllMay(), false);
    $('sign-out').hidden = !token;
    say($('open-settings'), token ? claimsOf(token)?.sub ?? 'Settings' : 'Sign in');
    if (token) this.#judge();
  }

  #whatAllMay() {
    const rights = VERBS.filter((verb) => this.#access[verb]?.length).map((verb) => `${verb} to ${this.#access[verb].join(', ')}`);
    return rights.length ? `Without a token you may ${rights.join(', and ')}.` : 'This server needs a token.';
  }

  /** Shows how the server answers a request with the token. */
  async #judge() {
    const { token } = this.#session;
    const { sub, exp } = claimsOf(token);
    let refusal = null;
    try {
      await this.#app.call('GET', 'stats');
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) return;
      refusal = error.message;
    }
    if (token !== this.#session.token) return;
    if (refusal) tell('standing', `Refused: ${refusal}`, true);
    else tell('standing', `Signed in as ${sub} ${exp ? `until ${new Date(exp * 1000).toLocaleString()}` : 'without an end'}.`, false);
  }

  /** Answers "May it?". */
  #ask() {
    const topic = $('asked').value, verb = $('verb').value, text = $('token').value.trim();
    const { separator } = this.#access;
    if (!topic) return tell('verdict', '');
    try {
      const claims = text ? claimsOf(text) : {};
      if (!claims) throw new Error('it is not HEADER.CLAIMS.SIGNATURE');
      const own = text ? findRule(claims, verb, topic, separator) : undefined;
      const common = findPattern(this.#access[verb] ?? [], topic, separator);
      if (own !== undefined) tell('verdict', `Allowed by ${own}`, false);
      else if (common !== undefined) tell('verdict', `Allowed by ${common}, to everybody`, false);
      else tell('verdict', text ? `Not allowed: no ${verb} pattern of the token matches.` : 'Not allowed without a token.', true);
    } catch (error) {
      tell('verdict', `Not allowed: the token is not valid: ${error.message}`, true);
    }
  }

  /** Reads the subject and the rights of the form "Make a token". */
  #wanted() {
    const list = (id) => $(id).value.split(',').map((it) => it.trim()).filter(Boolean);
    return { sub: $('sub').value, subscribe: list('subscribe-to'), publish: list('publish-to'), manage: list('manage-of') };
  }

  async #make() {
    $('made').hidden = true;
    const secret = new TextEncoder().encode($('secret').value), now = Math.floor(Date.now() / 1000);
    const claims = { ...this.#wanted(), iat: now, exp: now + Number($('lifetime').value), ...this.#access.claims };
    try {
      findRule(claims, 'publish', '', this.#access.separator);
      if (secret.length < 32) throw new Error('a secret has at least 32 bytes');
      $('new').value = await hs256(secret, claims);
    } catch (error) {
      return tell('problem', `No token was made: ${error.message}`);
    }
    tell('problem', '');
    $('made').hidden = false;
  }

  /** Shows the command that makes the same token, where the browser may not sign. */
  #command() {
    const { sub, ...rights } = this.#wanted();
    const options = VERBS.flatMap((verb) => rights[verb].map((it) => ` --${verb}=${quote(it)}`)).join('');
    tell('command', `python server.py token --sub=${quote(sub || 'ann')}${options} --ttl=${$('lifetime').value}s`);
  }

  #reveal(id, shown = $(id).type === 'password') {
    $(id).type = shown ? 'text' : 'password';
    say(document.querySelector(`[data-shows=${id}]`), shown ? 'Hide' : 'Show');
  }
}
