import { element } from './dom.js';

/** The view "Topics". */
export function mount(root, app) {
  root.append(element('h2', {}, 'Topics'));
  return { show() {}, hide() {} };
}
