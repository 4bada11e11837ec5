// Tables. All that peers say is set as text, never as markup.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function setText(place, text) { if (place.textContent !== text) place.textContent = text; }

// What a row is, whatever it looks like: with another display, browsers forget that.
function setRoles(line) {
  line.setAttribute('role', 'row');
  for (const cell of line.cells) cell.setAttribute('role', cell.tagName === 'TH' ? 'rowheader' : 'cell');
}

// Makes a table body have as many rows as there are items, and fills in what has changed.
function fill(table, items, columns) {
  const body = table.tBodies[0];
  while (body.rows.length > items.length) body.deleteRow(-1);
  items.forEach((item, place) => {
    const old = body.rows[place];
    const row = old || body.insertRow();
    columns.forEach(([className, text], column) => {
      const cell = row.cells[column] || row.appendChild(element('td', className));
      setText(cell, text(item));
    });
    if (!old) setRoles(row);
  });
}

const STATES = { connected: '', draining: 'waits', silent: 'waits', reconnecting: 'waits', connecting: 'waits' };

class NodesTable {
  constructor(order) {
    this.body = document.querySelector('#nodes tbody');
    this.window = document.getElementById('nodes-scroll');
    this.rows = new Map();
    this.order = order;
  }

  show(model) {
    const nodes = model.inOrder();
    const isInSight = this.sight(nodes.length);
    document.getElementById('no-nodes').hidden = nodes.length > 0 || model.heard === 0;
    for (const [id, row] of this.rows) {
      if (!model.nodes.has(id)) { row.line.remove(); this.rows.delete(id); }
    }
    nodes.forEach((node, place) => {
      let row = this.rows.get(node.id);
      const isNew = !row;
      if (isNew) { row = this.make(node); this.rows.set(node.id, row); }
      if (this.body.rows[place] !== row.line) this.body.insertBefore(row.line, this.body.rows[place] || null);
      // What is scrolled away is brought up to date when it is scrolled to.
      if (isNew || row.state.textContent !== node.state || isInSight(place)) this.update(row, node, model);
    });
  }

  // Which rows can be seen: asked before anything is changed, since whoever asks later makes the browser lay out all again.
  sight(count) {
    if (count <= 40) return () => true;
    const tall = Math.max(1, this.window.scrollHeight / count);
    const first = this.window.scrollTop / tall - 4;
    const last = first + this.window.clientHeight / tall + 8;
    return (place) => place >= first && place <= last;
  }

  make(node) {
    const line = element('tr');
    const head = element('th', 'whole');
    head.scope = 'row';
    const row = { line, name: element('span', 'name'), address: element('span', 'address'), reason: element('span', 'reason'),
      state: element('span', 'state'), bar: document.createElement('meter'), slots: element('span'),
      queued: element('td', 'number wide'), rate: element('td', 'number keep'), failed: element('td', 'number wide'),
      load: element('td', 'number wide'), memory: element('td', 'wide keep'),
      resize: element('button', '', 'Resize'), drain: element('button', '', 'Drain') };
    head.append(row.name, row.address, row.reason);
    const state = element('td', 'keep');
    state.append(row.state);
    const slots = element('td');
    const both = element('div', 'slots');
    both.append(row.bar, row.slots);
    slots.append(both);
    const orders = element('td', 'whole');
    const buttons = element('div', 'orders');
    row.resize.type = row.drain.type = 'button';
    row.resize.setAttribute('aria-label', `Resize ${node.name}`);
    row.drain.setAttribute('aria-label', `Drain ${node.name}`);
    row.bar.setAttribute('aria-label', `Slots of ${node.name} in use`);
    row.resize.addEventListener('click', () => this.order('resize', node.id));
    row.drain.addEventListener('click', () => this.order('drain', node.id));
    buttons.append(row.resize, row.drain);
    orders.append(buttons);
    row.rate.dataset.unit = 'ended / s';
    line.append(head, state, slots, row.queued, row.rate, row.failed, row.load, row.memory, orders);
    setRoles(line);
    return row;
  }

  update(row, node, model) {
    setText(row.name, node.name);
    setText(row.address, node.address === node.name ? '' : node.address);
    setText(row.reason, node.reason || '');
    setText(row.state, node.state);
    row.state.className = `state ${STATES[node.state] ?? 'gone'}`;
    const gone = isGone(node);
    row.bar.hidden = gone;
    row.bar.max = Math.max(1, node.slots);
    row.bar.value = node.busy;
    setText(row.slots, gone ? '-' : `${node.busy} of ${node.slots}`);
    setText(row.queued, gone ? '-' : String(node.queued));
    setText(row.rate, gone ? '-' : shownRate(model.rateOf(node)));
    setText(row.failed, String(node.failed));
    setText(row.load, gone ? '-' : node.load.toFixed(2));
    setText(row.memory, gone || node.memory_total === 0 ? '-' : `${(node.memory_used / 2 ** 30).toFixed(1)} of ${shownBytes(node.memory_total)}`);
    row.resize.disabled = node.state !== 'connected';
    row.drain.disabled = node.state !== 'connected';
  }
}

class Tables {
  constructor(order) {
    this.nodes = new NodesTable(order);
    this.totals = document.getElementById('totals');
    this.failures = document.getElementById('failures');
  }

  show(model, now) {
    this.nodes.show(model);
    const all = model.totals();
    this.showTotals([
      ['Nodes', all.gone === 0 ? String(all.nodes) : `${all.nodes} (${all.gone} gone)`],
      ['Slots busy', `${all.busy} of ${all.slots}`],
      ['Waiting', String(all.queued)],
      ['Ended / s', shownRate(all.rate)],
      ['Failed', String(all.failed)],
    ]);
    if (isOpen('running')) {
      fill(document.getElementById('running'), model.running(), [
        ['', (one) => one.node], ['', (one) => String(one.worker)], ['', (one) => one.function],
        ['', (one) => one.session], ['number', (one) => shownTime(Math.max(0, now - one.since) / 1000)],
      ]);
    }
    this.showFailures(model, now);
  }

  // The newest on top. A row that is there stays as it is.
  showFailures(model, now) {
    const body = this.failures.tBodies[0];
    for (const one of model.failures) {
      if (one.row) continue;
      const outcome = one.outcome.replaceAll('_', ' ');
      one.row = element('tr');
      one.row.append(
        element('td', 'keep', new Date(Date.now() - (now - one.at)).toLocaleTimeString()), element('td', 'name', one.what), element('td', '', one.node),
        element('td', 'wide', one.who), element('td', 'whole', one.reason ? `${outcome}: ${one.reason}` : outcome));
      setRoles(one.row);
      body.prepend(one.row);
    }
    while (body.rows.length > MOST_FAILURES) body.deleteRow(-1);
    document.getElementById('no-failures').hidden = body.rows.length > 0;
  }

  showTotals(all) {
    all.forEach(([name, value], place) => {
      let box = this.totals.children[place];
      if (!box) {
        box = element('div');
        box.append(element('dt', '', name), element('dd'));
        this.totals.append(box);
      }
      setText(box.lastChild, value);
    });
  }

  showCurves(data) {
    const seconds = data.ago.map((ago, place) => ({ ago: -ago, good: data.good[place], bad: data.bad[place], half: data.half[place], most: data.most[place] })).reverse();
    const time = (value) => (value === null ? '-' : shownTime(value));
    if (isOpen('rate-table')) fill(document.getElementById('rate-table'), seconds, [['', (one) => String(one.ago)], ['number', (one) => String(one.good)], ['number', (one) => String(one.bad)]]);
    if (isOpen('time-table')) fill(document.getElementById('time-table'), seconds, [['', (one) => String(one.ago)], ['number', (one) => time(one.half)], ['number', (one) => time(one.most)]]);
  }
}

function isOpen(table) { return document.getElementById(table).closest('details').open; }
