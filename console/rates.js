// Messages per second, and their small pictures.

const SECONDS = 60;
const SVG = 'http://www.w3.org/2000/svg';

/** Counts what happens in each of the last 60 seconds. */
export class Rate {
  #counts = new Uint32Array(SECONDS);
  #second = Math.floor(performance.now() / 1_000); // the newest second that is counted

  add(count = 1) {
    this.#move();
    this.#counts[this.#second % SECONDS] += count;
  }

  /** Returns the counts of the last 60 seconds, the oldest first; the last one is still going on. */
  read() {
    this.#move();
    const start = (this.#second + 1) % SECONDS;
    return [...this.#counts.subarray(start), ...this.#counts.subarray(0, start)];
  }

  /** Returns the mean of the last 3 whole seconds. */
  get now() {
    const counts = this.read();
    return (counts[SECONDS - 2] + counts[SECONDS - 3] + counts[SECONDS - 4]) / 3;
  }

  #move() {
    const second = Math.floor(performance.now() / 1_000);
    for (let past = Math.max(this.#second + 1, second - SECONDS + 1); past <= second; past += 1) this.#counts[past % SECONDS] = 0;
    this.#second = second;
  }
}

/** Returns a rate for people: "0.3", "12", "1,204". */
export function rateText(value) {
  return value >= 10 || value === 0 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
}

/** A picture of a rate: a bar for each second. */
export class Sparkline {
  node = document.createElementNS(SVG, 'svg');
  #path = document.createElementNS(SVG, 'path');

  constructor(className) {
    this.node.setAttribute('class', `spark ${className}`);
    this.node.setAttribute('viewBox', `0 0 ${SECONDS} 1`);
    this.node.setAttribute('preserveAspectRatio', 'none');
    this.node.setAttribute('aria-hidden', 'true');
    this.node.append(this.#path);
  }

  /** Draws the counts, and returns the largest. */
  draw(counts) {
    const most = Math.max(...counts, 1);
    const bars = counts.map((count, place) => (count ? `M${place} 1V${1 - Math.max(count / most, 0.08)}h.75V1z` : ''));
    this.#path.setAttribute('d', bars.join(''));
    return most;
  }
}
