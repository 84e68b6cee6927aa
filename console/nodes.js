import { element } from './dom.js';

/** The view "Nodes". */
export function mount(root, app) {
  root.append(element('h2', {}, 'Nodes'));
  return { show() {}, hide() {} };
}
