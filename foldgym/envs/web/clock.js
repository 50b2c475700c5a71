// Time of a page that passes only when it is told to: dates, timers, frames and performance.now.
(() => {
  if (Object.prototype.hasOwnProperty.call(window, "__clock")) return;
  const START = 1483272000000;  // noon of the first of January 2017, UTC
  const FRAME = 16, MOST = 100000;
  const RealDate = Date;
  const later = window.setTimeout.bind(window);
  let time = START, turn = 0, timers = new Map(), kept = null;

  const add = (run, at, every, given) => {
    turn += 1;
    timers.set(turn, { run, at, every, given, turn });
    return turn;
  };
  const callable = (run) => (typeof run === "function" ? run : () => (0, eval)(String(run)));
  const delay = (ms) => Math.max(0, Number(ms) || 0);
  const drop = (id) => { timers.delete(Number(id)); };
  window.setTimeout = (run, ms, ...given) => add(callable(run), time + Math.max(1, delay(ms)), 0, given);
  window.setInterval = (run, ms, ...given) => add(callable(run), time + Math.max(1, delay(ms)), Math.max(1, delay(ms)), given);
  window.requestAnimationFrame = (run) => add((...given) => run(performance.now(), ...given), time + FRAME - ((time - START) % FRAME), 0, []);
  window.requestIdleCallback = (run) => add(() => run({ didTimeout: false, timeRemaining: () => 50 }), time + 1, 0, []);
  for (const name of ["clearTimeout", "clearInterval", "cancelAnimationFrame", "cancelIdleCallback"]) window[name] = drop;
  performance.now = () => time - START;

  function VirtualDate(...given) {
    if (!new.target) return new RealDate(time).toString();
    return Reflect.construct(RealDate, given.length ? given : [time], new.target);
  }
  VirtualDate.prototype = RealDate.prototype;
  VirtualDate.prototype.constructor = VirtualDate;
  Object.setPrototypeOf(VirtualDate, RealDate);
  VirtualDate.now = () => time;
  VirtualDate.parse = RealDate.parse;
  VirtualDate.UTC = RealDate.UTC;
  window.Date = VirtualDate;

  const advance = async (ms) => {
    const until = time + ms;
    for (let ran = 0; ran < MOST; ran += 1) {
      let first = null;
      for (const each of timers.values())
        if (each.at <= until && (!first || each.at < first.at || (each.at === first.at && each.turn < first.turn))) first = each;
      if (!first) break;
      time = Math.max(time, first.at);
      if (first.every) first.at += first.every;
      else timers.delete(first.turn);
      try { first.run(...first.given); } catch (problem) { later(() => { throw problem; }); }
      await null;  // promises that it has kept run before the next timer
    }
    time = until;
  };
  // Back to the start, with the timers that the page had set while it loaded, and no others.
  const reset = () => {
    if (kept === null) kept = [...timers.values()].map((each) => ({ ...each }));
    time = START;
    timers = new Map(kept.map((each) => [each.turn, { ...each }]));
  };
  Object.defineProperty(window, "__clock", { value: { advance, reset, now: () => time - START } });
})();
