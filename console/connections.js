import { element } from './dom.js';

/** The view "Connections". */
export function mount(root, app) {
  root.append(element('h2', {}, 'Connections'));
  return { show() {}, hide() {} };
}
