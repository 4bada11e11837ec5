'use strict';
// What is known of the cluster: nothing here touches the page. All of it is in rings: a minute, so many bars, so many failures.

const MINUTE = 60_000;
const MOST_BARS = 50_000;
const MOST_FAILURES = 200;
// Upper bounds of the classes of run times, in milliseconds; what takes longer is in one of its own.
const BOUNDS = [1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

// Keeps the last values that were put into it.
class Ring {
  constructor(most) { this.most = most; this.items = []; this.first = 0; this.dropped = 0; }
  push(item) {
    this.items.push(item);
    if (this.length > this.most) { this.first += 1; this.dropped += 1; }
    this.tidy();
  }
  // Forgets from the oldest on what this holds of.
  forget(isOver) {
    while (this.length > 0 && isOver(this.items[this.first])) this.first += 1;
    this.tidy();
  }
  tidy() {
    if (this.first > 1024 && this.first * 2 > this.items.length) {
      this.items = this.items.slice(this.first);
      this.first = 0;
    }
  }
  get length() { return this.items.length - this.first; }
  *[Symbol.iterator]() { for (let i = this.first; i < this.items.length; i++) yield this.items[i]; }
}

// How an end is shown. There are as many shapes as colours.
function kindOf(outcome) {
  switch (outcome) {
    case 'succeeded': return 'ok';
    case 'worker_died': return 'lost';
    case 'cancelled': case 'returned': return 'stopped';
    default: return 'failed';
  }
}

class Model {
  constructor() {
    this.nodes = new Map();
    this.bars = new Ring(MOST_BARS);
    this.many = new Ring(MOST_BARS);
    this.failures = new Ring(MOST_FAILURES);
    this.failed = 0;
    // A second each: when, how many succeeded and failed, and how long they ran by class.
    this.seconds = new Ring(61);
    this.at = 0;
    this.heard = 0;
    this.missed = 0;
  }

  // The time at the server now, as far as is known.
  now(clock) { return this.heard === 0 ? 0 : this.at + (clock - this.heard); }

  // Takes in a line of the stream, heard at `clock`.
  take(frame, clock) {
    if (frame.missed) { this.missed += frame.missed; return; }
    this.at = frame.at;
    this.heard = clock;
    const known = new Set();
    for (const node of frame.nodes) {
      known.add(node.id);
      this.takeNode(node);
    }
    for (const id of this.nodes.keys()) if (!known.has(id)) this.nodes.delete(id);
    this.forget();
  }

  takeNode(node) {
    const before = this.nodes.get(node.id);
    Object.assign(node, before ? { rate: before.rate, failed: before.failed, totals: before.totals, lanes: before.lanes, seen: before.seen }
      : { rate: new Ring(20), failed: 0, totals: null, lanes: new Lanes(), seen: null });
    this.nodes.set(node.id, node);
    for (const seen of node.activities) this.takeActivity(node, seen);
    if (isGone(node)) { node.seen = null; node.totals = null; node.lanes = new Lanes(); }
  }

  // Counts are since the node was started: what happened is the difference to those seen before.
  takeActivity(node, seen) {
    const before = node.totals;
    const isSameLife = before !== null && before.uptime <= seen.uptime;
    const more = (now, was) => Math.max(0, now - (isSameLife ? was : now));
    let good = 0;
    let bad = 0;
    for (const [outcome, count] of Object.entries(seen.ended)) {
      const kind = kindOf(outcome);
      const ended = more(count, isSameLife ? before.ended[outcome] : 0);
      if (kind === 'ok') good += ended;
      if (kind === 'failed' || kind === 'lost') bad += ended;
    }
    node.rate.push({ at: seen.at, ended: good + bad });
    node.failed += bad;
    this.failed += bad;
    const second = this.second(seen.at);
    second.good += good;
    second.bad += bad;
    seen.classes.forEach((count, place) => { second.classes[place] += more(count, isSameLife ? before.classes[place] : 0); });
    node.totals = seen;
    node.seen = seen;
    node.lanes.take(seen.workers.map((worker) => worker.worker), node.slots);
    let shown = 0;
    for (const attempt of seen.attempts) {
      const kind = kindOf(attempt.outcome);
      const to = seen.at - attempt.ago;
      if (kind !== 'stopped') shown += 1;
      this.bars.push({ node: node.id, lane: node.lanes.of(attempt.worker), from: to - attempt.took, to, kind });
      if (kind === 'failed' || kind === 'lost') {
        this.failures.push({ at: to, node: node.name, what: attempt.function, who: attempt.session, outcome: attempt.outcome, reason: attempt.reason });
      }
    }
    if (good + bad > shown) this.many.push({ node: node.id, at: seen.at, count: good + bad - shown });
  }

  second(when) {
    const at = Math.floor(when / 1000);
    let last = null;
    for (const second of this.seconds) last = second;
    if (last !== null && last.at === at) return last;
    const second = { at, good: 0, bad: 0, classes: new Array(BOUNDS.length + 1).fill(0) };
    this.seconds.push(second);
    return second;
  }

  forget() {
    const from = this.at - MINUTE;
    this.bars.forget((bar) => bar.to < from);
    this.many.forget((many) => many.at < from);
    this.seconds.forget((second) => second.at * 1000 < from - 1000);
    for (const node of this.nodes.values()) node.rate.forget((some) => some.at < this.at - 5_000);
  }

  // In the order in which they are shown: first those of which something is to be said.
  inOrder() {
    return [...this.nodes.values()].sort((one, other) => rank(one) - rank(other) || NAMES.compare(one.id, other.id));
  }

  rateOf(node) {
    let ended = 0;
    let first = this.at;
    for (const some of node.rate) { ended += some.ended; first = Math.min(first, some.at); }
    const seconds = Math.max(1, (this.at - first) / 1000);
    return ended / seconds;
  }

  totals() {
    const all = { nodes: 0, gone: 0, slots: 0, busy: 0, queued: 0, rate: 0, failed: this.failed, runs: false };
    for (const node of this.nodes.values()) {
      if (isGone(node)) { all.gone += 1; continue; }
      all.nodes += 1;
      all.slots += node.slots;
      all.busy += node.busy;
      all.queued += node.queued;
      all.rate += this.rateOf(node);
    }
    return all;
  }

  // What runs now, longest first.
  running() {
    const all = [];
    for (const node of this.nodes.values()) {
      for (const worker of (node.seen ? node.seen.workers : [])) {
        if (worker.ran !== null) all.push({ node: node.name, id: node.id, lane: node.lanes.of(worker.worker), since: node.seen.at - worker.ran, ...worker });
      }
    }
    return all.sort((one, other) => one.since - other.since);
  }
}

// Places of workers, one below the other. A worker keeps its place, which another one gets once it is gone.
class Lanes {
  constructor() { this.places = []; this.known = new Map(); }
  take(workers, slots) {
    const here = new Set(workers);
    // One that is gone may still have ended something that is told of.
    for (const [worker, place] of this.known) {
      if (!here.has(worker)) {
        if (this.places[place] === worker) this.places[place] = null;
        if (this.known.size > 4 * (workers.length + slots)) this.known.delete(worker);
      }
    }
    for (const worker of workers) {
      if (this.places[this.known.get(worker)] === worker) continue;
      let place = this.places.indexOf(null);
      if (place < 0) place = this.places.length;
      this.places[place] = worker;
      this.known.set(worker, place);
    }
    while (this.places.length > Math.max(1, slots) && this.places[this.places.length - 1] === null) this.places.pop();
  }
  of(worker) { return this.known.get(worker) ?? 0; }
  count(slots) { return Math.max(1, slots, this.places.length); }
}

const NAMES = new Intl.Collator('en', { numeric: true });

function rank(node) { return node.state === 'connected' ? 2 : isGone(node) ? 0 : 1; }

function isGone(node) { return !['connected', 'draining', 'silent', 'reconnecting'].includes(node.state); }

// The bound within which such a part of the attempts ran, in seconds; null if there were none.
function quantile(classes, part) {
  const all = classes.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let sum = 0;
  for (let place = 0; place < classes.length; place++) {
    sum += classes[place];
    if (sum >= all * part) return (place < BOUNDS.length ? BOUNDS[place] : BOUNDS[BOUNDS.length - 1] * 3) / 1000;
  }
  return null;
}

// A length of time in few characters.
function shownTime(seconds) {
  if (seconds < 0.001) return '< 1 ms';
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

function shownBytes(bytes) {
  return bytes === 0 ? '-' : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function shownRate(rate) { return rate === 0 ? '0' : rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString('en'); }
