// The page: who is asked, what is shown, and when. Nothing is drawn while nobody looks.

const FRAME = 100;
const TABLES = 500;
const SECOND = 1000;

// The token is in the part of the address that browsers send to nobody, and after that for this tab only.
const Token = {
  find() {
    const said = new URLSearchParams(location.hash.slice(1)).get('token');
    if (said) {
      sessionStorage.setItem('token', said);
      history.replaceState(null, '', location.pathname);
    }
    return said || sessionStorage.getItem('token');
  },
  set(token) { sessionStorage.setItem('token', token); },
  forget() { sessionStorage.removeItem('token'); },
};

class Live {
  constructor(model, tell) { this.model = model; this.tell = tell; this.token = Token.find(); }

  ask(path, options = {}) {
    return fetch(path, { ...options, cache: 'no-store', credentials: 'omit', headers: { ...options.headers, Authorization: `Bearer ${this.token}` } });
  }

  // Follows the stream, and dials again when it ends.
  async follow() {
    for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
      if (!this.token) return this.tell('door');
      try {
        const answer = await this.ask('live');
        if (answer.status === 401) {
          Token.forget();
          this.token = null;
          continue;
        }
        if (!answer.ok) throw new Error(await answer.text());
        this.tell('open');
        await this.read(answer.body.getReader());
        wait = 500;
        this.tell('broken', 'ppctl has ended');
      } catch (error) {
        this.tell('broken', error.message);
      }
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = lines.pop();
      for (const line of lines) this.model.take(JSON.parse(line), performance.now());
    }
  }

  async give(order, body) {
    const answer = await this.ask(order, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
  }
}

// The question before an order.
class Orders {
  constructor(model, live) {
    this.model = model;
    this.live = live;
    this.dialog = document.getElementById('order');
    this.slots = document.getElementById('order-slots');
    this.dialog.querySelector('form').addEventListener('submit', (event) => this.submitted(event));
  }

  ask(order, id) {
    const node = this.model.nodes.get(id);
    if (!node) return;
    this.what = { order, id };
    const resize = order === 'resize';
    document.getElementById('order-title').textContent = resize ? `Resize ${node.name}` : `Drain ${node.name}`;
    document.getElementById('order-text').textContent = resize
      ? 'How many jobs it runs at once. Fewer: those that run end first. With 0 it takes none.'
      : 'It finishes what runs, takes no more, and then exits. What waits there runs elsewhere.';
    document.getElementById('order-number').hidden = !resize;
    document.getElementById('order-error').textContent = '';
    this.slots.required = resize;
    this.slots.value = node.slots;
    document.getElementById('order-yes').textContent = resize ? 'Resize' : 'Drain';
    this.dialog.showModal();
    if (resize) this.slots.select();
  }

  async submitted(event) {
    if (event.submitter && event.submitter.value === 'no') return;
    event.preventDefault();
    const { order, id } = this.what;
    const yes = document.getElementById('order-yes');
    yes.disabled = true;
    try {
      await this.live.give(order, order === 'resize' ? { node: id, slots: Number(this.slots.value) } : { node: id });
      this.dialog.close();
    } catch (error) {
      document.getElementById('order-error').textContent = error.message;
    }
    yes.disabled = false;
  }
}

function main() {
  const model = new Model();
  const inks = new Inks();
  const link = document.getElementById('link');
  const door = document.getElementById('door');
  const tell = (state, why) => {
    door.hidden = state !== 'door';
    link.className = state === 'broken' ? 'broken' : '';
    link.textContent = { open: 'live', door: 'waits for the token', broken: `not connected: ${why}; trying again` }[state];
  };
  const live = new Live(model, tell);
  const orders = new Orders(model, live);
  const tables = new Tables((order, id) => orders.ask(order, id));
  const strip = new Strip(document.getElementById('strip'), inks);
  const curves = new Curves(inks);
  const keys = () => document.querySelectorAll('.key').forEach((key) => {
    const ink = key.getContext('2d');
    ink.clearRect(0, 0, 28, 14);
    inks.bar(ink, key.dataset.kind, 0, 1, 28, 12);
  });
  keys();
  for (const query of ['(prefers-color-scheme: dark)']) {
    matchMedia(query).addEventListener('change', () => { inks.read(); curves.build(); keys(); });
  }
  door.addEventListener('submit', (event) => {
    event.preventDefault();
    live.token = document.getElementById('token').value.trim();
    Token.set(live.token);
    live.follow();
  });
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const last = { strip: 0, tables: 0, curves: 0, cost: 0 };
  const draw = (clock) => {
    if (!document.hidden && model.heard > 0) {
      const now = model.now(performance.now());
      const pause = Math.max(still.matches ? SECOND : FRAME, strip.pause(last.cost));
      if (clock - last.strip >= pause) {
        const began = performance.now();
        strip.draw(model, now);
        last.cost = performance.now() - began;
        last.strip = clock;
      }
      if (clock - last.tables >= (model.nodes.size > 40 ? SECOND : TABLES)) {
        tables.show(model, now);
        const notes = [strip.note];
        if (model.bars.dropped > 0) notes.push(`Only the last ${MOST_BARS.toLocaleString('en')} bars are kept.`);
        if (model.missed > 0) notes.push(`${model.missed} updates came too fast for this page and are not in it.`);
        setText(document.getElementById('strip-note'), notes.filter(Boolean).join(' '));
        last.tables = clock;
      }
      if (clock - last.curves >= SECOND) {
        const data = curves.data(model, now);
        curves.fit();
        curves.draw(data);
        tables.showCurves(data);
        last.curves = clock;
      }
    }
    setTimeout(() => requestAnimationFrame(draw), FRAME - 20);
  };
  requestAnimationFrame(draw);
  // For tests, which look at what is known rather than at pixels.
  window.cluster = model;
  live.follow();
}

main();
