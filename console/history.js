import { element } from './dom.js';

/** The view "History". */
export function mount(root, app) {
  root.append(element('h2', {}, 'History'));
  return { show() {}, hide() {} };
}
