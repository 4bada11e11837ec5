// Curves over the last minute: how many ended, how long they ran.

// Steps of an axis of counts.
const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6];

// An axis with lines at powers of ten only.
function powers(axis, values) {
  const filter = (_, all) => all.map((value) => (/^10*$|^0\.0*1$/.test(String(Number(value.toPrecision(6)))) ? value : null));
  return { ...axis, size: 60, values, filter, grid: { ...axis.grid, filter }, ticks: { ...axis.ticks, filter } };
}

class Curves {
  constructor(inks) {
    this.inks = inks;
    this.charts = [];
    this.build();
  }

  build() {
    for (const chart of this.charts) chart.destroy();
    const colours = this.inks.colours;
    const axis = { stroke: colours.faint, grid: { stroke: colours.line, width: 1 }, ticks: { stroke: colours.line }, font: '12px system-ui, sans-serif' };
    const ago = (_, values) => values.map((value) => (value === 0 ? 'now' : `${value} s`));
    const make = (id, series, values, logarithmic) => {
      const place = document.getElementById(id);
      const options = {
        width: place.clientWidth, height: 200, legend: { show: true, live: false }, cursor: { show: false },
        scales: { x: { time: false, range: [-60, 0] }, y: logarithmic ? { distr: 3, range: [0.001, 1000] } : { range: (_, least, most) => [0, Math.max(5, most * 1.1)] } },
        axes: [{ ...axis, values: ago, incrs: [10, 20, 30] }, logarithmic ? powers(axis, values) : { ...axis, size: 60, incrs: COUNTS, values }],
        series: [{}, ...series],
      };
      const chart = new uPlot(options, [[], ...series.map(() => [])], place);
      this.charts.push(chart);
      return chart;
    };
    this.charts = [];
    this.rate = make('rate', [
      { label: 'succeeded', stroke: colours.ok, width: 2 },
      { label: 'failed (dashed)', stroke: colours.failed, width: 2, dash: [6, 4] },
    ], (_, values) => values.map((value) => shownRate(value)), false);
    this.time = make('time', [
      { label: 'half within', stroke: colours.running, width: 2, spanGaps: true },
      { label: 'nine tenths within (dashed)', stroke: colours.lost, width: 2, dash: [6, 4], spanGaps: true },
    ], (_, values) => values.map((value) => (value === null ? '' : shownTime(value))), true);
  }

  fit() {
    for (const chart of this.charts) {
      const width = chart.root.parentElement.clientWidth;
      if (width > 0 && width !== chart.width) chart.setSize({ width, height: 200 });
    }
  }

  // Seconds that are over, oldest first.
  data(model, now) {
    const seconds = new Map([...model.seconds].map((second) => [second.at, second]));
    const last = Math.floor(now / 1000) - 1;
    const out = { ago: [], good: [], bad: [], half: [], most: [] };
    for (let ago = 59; ago >= 0; ago--) {
      const second = seconds.get(last - ago);
      out.ago.push(ago === 0 ? 0 : -ago);
      out.good.push(second ? second.good : 0);
      out.bad.push(second ? second.bad : 0);
      out.half.push(second ? quantile(second.classes, 0.5) : null);
      out.most.push(second ? quantile(second.classes, 0.9) : null);
    }
    return out;
  }

  draw(data) {
    this.rate.setData([data.ago, data.good, data.bad]);
    this.time.setData([data.ago, data.half, data.most]);
  }
}
