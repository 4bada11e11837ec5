// A cluster that does not exist, for looking at the page: arguments are how many nodes, slots of each, attempts a minute.
const [nodeCount, slots, aMinute] = arguments;
const names = ['simulate', 'render_tile', 'fib', 'crawl', 'compress'];
let seed = 1;
const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
const nodes = Array.from({ length: nodeCount }, (_, n) => ({
  id: `node${n} (10.0.0.${n}:60000)`, name: `node${n}`, address: `10.0.0.${n}:60000`, found: 'network', state: 'connected', reason: null, slots,
  busy: 0, queued: 0, dispatchers: 1, cpus: slots, load: random() * slots, memory_used: 3e9 + random() * 4e9, memory_total: 16 * 2 ** 30, confinement: 'secrets',
  uptime: 1000, ended: { succeeded: 0, panicked: 0, timed_out: 0, cancelled: 0, returned: 0, worker_died: 0 }, classes: new Array(14).fill(0),
  workers: Array.from({ length: slots }, (_, w) => ({ worker: w, since: null, until: 0, what: '' })), next: slots,
}));
if (nodeCount > 1) { const last = nodes[nodeCount - 1]; last.state = 'unreachable'; last.reason = 'it fell silent: nothing was heard of it for 5 s'; last.gone = true; }
const mean = (nodeCount * slots * 60000) / aMinute;
let at = 0;
window.made = setInterval(() => {
  at += 250;
  const shown = nodes.map((node) => {
    const { workers, ended, classes, uptime, next, gone, ...line } = node;
    if (gone) return { ...line, activities: [] };
    node.uptime += 250;
    const attempts = [];
    for (const worker of workers) {
      while (worker.until <= at) {
        if (worker.since !== null) {
          const took = worker.until - worker.since;
          const dice = random();
          const outcome = dice < 0.02 ? 'panicked' : dice < 0.025 ? 'timed_out' : dice < 0.035 ? 'worker_died' : 'succeeded';
          ended[outcome] += 1;
          classes[[1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6].findIndex((bound) => took <= bound)] += 1;
          if (attempts.length < 64) attempts.push({ worker: worker.worker, function: worker.what, session: 'ada@render1: sweep', ago: at - worker.until, took, outcome,
            reason: outcome === 'succeeded' ? '' : outcome === 'panicked' ? 'index out of bounds: the len is 3 but the index is 7 <b>\u202e\u001b[31m' : outcome === 'worker_died' ? 'was killed by signal 11 (SIGSEGV)' : 'ran longer than 10 s' });
          if (outcome === 'worker_died') { worker.worker = node.next; node.next += 1; }
        }
        worker.since = Math.max(worker.until, 1) + Math.floor(random() * 20);
        worker.until = worker.since + 20 + Math.floor(-mean * Math.log(random()));
        worker.what = names[Math.floor(random() * names.length)];
      }
    }
    const busy = workers.filter((worker) => worker.since <= at).length;
    node.busy = busy;
    return { ...line, busy, activities: [{ at, uptime: node.uptime, ended: { ...ended }, classes: [...classes], sessions: [], left_out: {},
      workers: workers.map((worker) => ({ worker: worker.worker, function: worker.since <= at ? worker.what : '', session: 'ada@render1: sweep', doing: worker.since <= at ? 'running' : 'idle', ran: worker.since <= at ? at - worker.since : null })), attempts }] };
  });
  cluster.take(JSON.parse(JSON.stringify({ at, nodes: shown })), performance.now());
}, 250);
