// The strip: a row for each worker, a bar for each attempt. What runs grows.

const MOST_ROWS = 400;
const LEAST_ROW = 4;
const MOST_ROW = 16;
const HEIGHT = 460;

// Shapes and colours. Patterns are made once for each set of colours.
class Inks {
  constructor() { this.read(); }
  read() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = {};
    for (const name of ['ok', 'failed', 'lost', 'running', 'many', 'text', 'faint', 'line', 'panel']) this.colours[name] = colour(`--${name}`);
    this.fills = { ok: this.colours.ok, failed: this.stripes(this.colours.failed, true), running: this.stripes(this.colours.running, false),
      stopped: this.dots(this.colours.faint) };
  }
  tile(size, draw) {
    const tile = document.createElement('canvas');
    tile.width = tile.height = size;
    draw(tile.getContext('2d'));
    return tile.getContext('2d').createPattern(tile, 'repeat');
  }
  // Hatched one way or the other.
  stripes(colour, falls) {
    return this.tile(8, (ink) => {
      ink.globalAlpha = 0.35;
      ink.fillStyle = colour;
      ink.fillRect(0, 0, 8, 8);
      ink.globalAlpha = 1;
      ink.strokeStyle = colour;
      ink.lineWidth = 2.4;
      ink.beginPath();
      for (const shift of [-8, 0, 8]) {
        ink.moveTo(shift, falls ? 0 : 8);
        ink.lineTo(shift + 8, falls ? 8 : 0);
      }
      ink.stroke();
    });
  }
  dots(colour) {
    return this.tile(4, (ink) => { ink.fillStyle = colour; ink.fillRect(0, 0, 2, 2); });
  }
  bar(ink, kind, x, y, width, height) {
    if (kind === 'lost') {
      ink.strokeStyle = this.colours.lost;
      ink.lineWidth = 1.5;
      ink.strokeRect(x + 0.75, y + 0.75, Math.max(1, width - 1.5), height - 1.5);
      return;
    }
    if (kind === 'many') {
      ink.fillStyle = this.colours.many;
      ink.fillRect(x, y + height * 0.35, width, Math.max(1, height * 0.3));
      return;
    }
    ink.fillStyle = this.fills[kind];
    ink.fillRect(x, y, width, height);
  }
}

class Strip {
  constructor(canvas, inks) { this.canvas = canvas; this.inks = inks; this.note = ''; this.drawn = 0; }

  // Rows from top to bottom: workers of nodes, or nodes if those are too many.
  plan(model) {
    const nodes = [...model.nodes.values()].filter((node) => !isGone(node)).sort((one, other) => NAMES.compare(one.id, other.id));
    const all = nodes.reduce((sum, node) => sum + node.lanes.count(node.slots), 0);
    const byWorker = all <= MOST_ROWS;
    const count = byWorker ? all : nodes.length;
    const row = Math.max(LEAST_ROW, Math.min(MOST_ROW, Math.floor(HEIGHT / Math.max(1, count))));
    const between = nodes.length > 60 ? 1 : 6;
    const plan = { row, gap: row > 5 ? 2 : 1, byWorker, nodes: new Map(), height: 22 };
    for (const node of nodes) {
      const rows = byWorker ? node.lanes.count(node.slots) : 1;
      plan.nodes.set(node.id, { name: node.name, y: plan.height, height: rows * row });
      plan.height += rows * row + between;
    }
    plan.height = Math.max(60, plan.height + 2);
    this.note = byWorker ? '' : `More than ${MOST_ROWS} workers: a row for each node.`;
    return plan;
  }

  draw(model, now) {
    const plan = this.plan(model);
    const width = this.canvas.clientWidth;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(plan.height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(plan.height * scale);
      this.canvas.style.height = `${plan.height}px`;
    }
    const ink = this.canvas.getContext('2d');
    ink.setTransform(scale, 0, 0, scale, 0, 0);
    ink.clearRect(0, 0, width, plan.height);
    const gutter = width < 600 ? 72 : 132;
    const span = width - gutter - 8;
    this.axis(ink, gutter, span, plan.height);
    this.labels(ink, plan, gutter);
    ink.save();
    ink.beginPath();
    ink.rect(gutter, 0, span, plan.height);
    ink.clip();
    this.bars(ink, model, plan, now, (at) => gutter + span * (1 - (now - at) / MINUTE));
    ink.restore();
  }

  // Pause until the next picture: where there is much to draw, that is drawn less often.
  pause(cost) { return Math.min(1000, Math.max(cost * 10, this.drawn / 20)); }

  bars(ink, model, plan, now, x) {
    this.drawn = model.bars.length + model.many.length;
    const tall = plan.row - plan.gap;
    const y = (node, lane) => node.y + (plan.byWorker ? Math.min(lane * plan.row, node.height - plan.row) : 0);
    for (const many of model.many) {
      const node = plan.nodes.get(many.node);
      if (!node) continue;
      ink.globalAlpha = Math.min(1, 0.25 + Math.log10(1 + many.count) / 4);
      this.inks.bar(ink, 'many', x(many.at - 250), node.y, Math.max(1, x(many.at) - x(many.at - 250)), node.height - plan.gap);
    }
    ink.globalAlpha = 1;
    for (const bar of model.bars) {
      const node = plan.nodes.get(bar.node);
      if (node) this.inks.bar(ink, bar.kind, x(bar.from), y(node, bar.lane), Math.max(1.5, x(bar.to) - x(bar.from) - 0.5), tall);
    }
    for (const one of model.running()) {
      const node = plan.nodes.get(one.id);
      if (!node) continue;
      const from = Math.max(x(now - MINUTE), x(one.since));
      this.inks.bar(ink, 'running', from, y(node, one.lane), Math.max(2, x(now) - from), tall);
    }
  }

  axis(ink, gutter, span, height) {
    ink.font = '12px system-ui, sans-serif';
    ink.textAlign = 'center';
    ink.textBaseline = 'top';
    for (let ago = 60; ago >= 0; ago -= span < 420 ? 30 : 10) {
      const x = gutter + span * (1 - ago / 60);
      ink.fillStyle = this.inks.colours.line;
      ink.fillRect(x, 18, 1, height - 18);
      ink.fillStyle = this.inks.colours.faint;
      ink.textAlign = ago === 0 ? 'right' : 'center';
      ink.fillText(ago === 0 ? 'now' : `−${ago} s`, ago === 0 ? x + 6 : x, 4);
    }
  }

  labels(ink, plan, gutter) {
    ink.textAlign = 'right';
    ink.textBaseline = 'middle';
    ink.fillStyle = this.inks.colours.text;
    let last = -20;
    for (const node of plan.nodes.values()) {
      const middle = node.y + node.height / 2;
      if (middle - last < 13) continue;
      last = middle;
      ink.fillText(fitted(ink, node.name, gutter - 14), gutter - 8, middle);
    }
  }
}

// The beginning of a name, as much as there is room for.
function fitted(ink, name, width) {
  if (ink.measureText(name).width <= width) return name;
  let length = name.length;
  while (length > 1 && ink.measureText(`${name.slice(0, length)}…`).width > width) length -= 1;
  return `${name.slice(0, length)}…`;
}
