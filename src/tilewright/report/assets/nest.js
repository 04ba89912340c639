// A nest as it runs: which tile every buffer holds at a step, and what moved to get there.
// The rules are those of docs/spec/model.md, section 3, followed step by step; nothing is drawn here.
(() => {
  "use strict";
  const tw = (window.tilewright = window.tilewright || {});

  // All loops, outermost first, with their steps; for every operand its stores, outermost first.
  tw.flatten = (blocks) => {
    const loops = [];
    const stores = {};
    for (const block of blocks) {
      for (const name of block.operands) {
        (stores[name] = stores[name] || []).push({ memory: block.memory, depth: loops.length });
      }
      for (const [dim, extent, axis] of block.loops) {
        if (extent > 1) loops.push({ dim, extent, axis, memory: block.memory });
      }
    }
    const steps = {};
    for (const loop of [...loops].reverse()) {
      loop.step = steps[loop.dim] || 1;
      steps[loop.dim] = loop.step * loop.extent;
    }
    return { loops, stores };
  };

  // The box of iterations inside a store: where it begins, and how far it goes, by dim.
  tw.boxAt = (nest, sizes, depth, index) => {
    const begin = {};
    const extent = {};
    for (const dim of Object.keys(sizes)) {
      begin[dim] = 0;
      extent[dim] = 1;
    }
    nest.loops.forEach((loop, place) => {
      if (place < depth) begin[loop.dim] += index[place] * loop.step;
      else extent[loop.dim] *= loop.extent;
    });
    for (const dim of Object.keys(sizes)) {
      extent[dim] = Math.max(0, Math.min(extent[dim], sizes[dim] - begin[dim]));
    }
    return { begin, extent };
  };

  // The coordinates of one rank that a box touches and that are words: sorted, and from where to where.
  const coordinates = (rank, box, { box: spanOnly, padding }) => {
    const terms = Object.entries(rank.terms);
    let found = [0];
    for (const [dim, factor] of terms) {
      const sums = new Set();
      for (const sum of found) {
        for (let i = 0; i < box.extent[dim]; i += 1) sums.add(sum + factor * (box.begin[dim] + i));
      }
      found = [...sums];
    }
    if (rank.data && !spanOnly && !padding) {
      found = found.filter((at) => at >= rank.data[0] && at < rank.data[1]);
    }
    found.sort((a, b) => a - b);
    const low = found.length ? found[0] : 0;
    const high = found.length ? found[found.length - 1] : -1;
    const count = spanOnly ? high - low + 1 : found.length;
    return { low, high, count, members: count === high - low + 1 ? null : new Set(found) };
  };

  const MOST_REMEMBERED = 20000;
  tw.toucher = (rules) => {
    let remembered = new Map();
    return (operand, box) =>
      operand.ranks.map((rank, number) => {
        const dims = Object.keys(rank.terms);
        const where = dims.map((dim) => `${box.begin[dim]}+${box.extent[dim]}`).join(",");
        const key = `${operand.name} ${number} ${where}`;
        if (remembered.size > MOST_REMEMBERED) remembered = new Map();
        if (!remembered.has(key)) remembered.set(key, coordinates(rank, box, rules));
        return remembered.get(key);
      });
  };

  tw.wordsOf = (ranks) => ranks.reduce((product, rank) => product * rank.count, 1);

  const common = (one, other) => {
    const low = Math.max(one.low, other.low);
    const high = Math.min(one.high, other.high);
    if (high < low) return 0;
    if (!one.members && !other.members) return high - low + 1;
    const [few, many] = one.count <= other.count ? [one, other] : [other, one];
    let count = 0;
    for (let at = low; at <= high; at += 1) {
      const inFew = !few.members || few.members.has(at);
      if (inFew && (!many.members || many.members.has(at))) count += 1;
    }
    return count;
  };
  tw.wordsInCommon = (one, other) =>
    one.reduce((product, rank, number) => product * common(rank, other[number]), 1);

  const same = (one, other) =>
    one.every((rank, number) => {
      const twin = other[number];
      const equal = rank.low === twin.low && rank.high === twin.high && rank.count === twin.count;
      return equal && common(rank, twin) === rank.count;
    });
  tw.sameTile = same;

  tw.MOST_STEPS = 2000;

  // The first steps of the loops outside a memory's tiles, and what moves at each of them, for one
  // instance of every memory. `instance` gives the index of every spatial loop, by its place.
  tw.walk = (work, blocks, rules, memory, instance = {}) => {
    const nest = tw.flatten(blocks);
    const touch = tw.toucher(rules);
    const depth = Math.max(
      ...Object.values(nest.stores)
        .flat()
        .filter((store) => store.memory === memory)
        .map((store) => store.depth)
    );
    const outside = nest.loops.map((loop, place) => place).filter((place) => place < depth);
    const temporal = outside.filter((place) => !nest.loops[place].axis);
    const total = temporal.reduce((product, place) => product * nest.loops[place].extent, 1);
    const places = placesOf(work, nest, depth);
    const index = nest.loops.map((loop, place) => (loop.axis && instance[place]) || 0);
    const steps = [];
    let took = -1;
    while (index && steps.length < tw.MOST_STEPS) {
      if (exists(nest, work.sizes, depth, index)) {
        const before = steps.length ? steps[steps.length - 1].index : null;
        took = before === null ? -1 : temporal.findIndex((place) => before[place] !== index[place]);
        const by = before === null ? -1 : temporal[took];
        steps.push({
          index: [...index],
          by,
          moves: places.map((place) => advance(place, nest, work, touch, rules, index, by)),
        });
      }
      if (!advanceIndex(nest, temporal, index)) break;
    }
    const complete = isLast(nest, temporal, index) || !temporal.length;
    if (complete && steps.length) steps.push(leave(places, steps[steps.length - 1]));
    return { nest, depth, temporal, places, steps, total, complete };
  };

  const placesOf = (work, nest, depth) =>
    work.operands.flatMap((operand) =>
      (nest.stores[operand.name] || [])
        .map((store, number, all) => ({
          operand,
          memory: store.memory,
          depth: store.depth,
          parent: number ? all[number - 1].memory : null,
          window: windowLoop(nest, operand, store.depth),
          held: null,
          seen: new Set(),
          filled: 0,
          drained: 0,
        }))
        .filter((store) => store.depth <= depth)
    );

  // The innermost loop outside a store that indexes its operand: along it a window slides.
  const windowLoop = (nest, operand, depth) => {
    const dims = new Set(operand.ranks.flatMap((rank) => Object.keys(rank.terms)));
    for (let place = depth - 1; place >= 0; place -= 1) {
      const loop = nest.loops[place];
      if (!loop.axis && dims.has(loop.dim)) return place;
    }
    return -1;
  };

  const exists = (nest, sizes, depth, index) => {
    const { begin } = tw.boxAt(nest, sizes, depth, index);
    return Object.keys(sizes).every((dim) => begin[dim] < sizes[dim]);
  };

  const advanceIndex = (nest, temporal, index) => {
    for (let number = temporal.length - 1; number >= 0; number -= 1) {
      const place = temporal[number];
      index[place] += 1;
      if (index[place] < nest.loops[place].extent) return true;
      index[place] = 0;
    }
    return false;
  };

  // After the last step every index has returned to 0.
  const isLast = (nest, temporal, index) => temporal.every((place) => index[place] === 0);

  const advance = (place, nest, work, touch, rules, index, by) => {
    const box = tw.boxAt(nest, work.sizes, place.depth, index);
    const needed = touch(place.operand, box);
    const held = place.held;
    place.held = needed;
    const words = tw.wordsOf(needed);
    const still = held !== null && (by >= place.depth || same(held, needed));
    const slides = rules.reuse === "delta" || (rules.reuse !== "refetch" && by === place.window);
    let kept = 0;
    if (still) kept = words;
    else if (held !== null && slides) kept = tw.wordsInCommon(held, needed);
    let filled = words - kept;
    let drained = 0;
    if (place.operand.output) {
      drained = still || held === null ? 0 : tw.wordsOf(held) - kept;
      const key = needed.map((rank) => `${rank.low}:${rank.high}`).join(" ");
      const again = place.seen.has(key);
      place.seen.add(key);
      if (!again && rules.elides) filled = 0;
    }
    if (place.parent === null) filled = drained = 0;
    place.filled += filled;
    place.drained += drained;
    return { ranks: needed, words, kept, filled, drained, still, sums: [place.filled, place.drained] };
  };

  // At the end every output that is still in a buffer leaves it.
  const leave = (places, last) => ({
    index: last.index,
    by: -1,
    end: true,
    moves: places.map((place, number) => {
      const leaves = place.operand.output && place.parent !== null;
      const drained = leaves ? tw.wordsOf(place.held) : 0;
      place.drained += drained;
      const { ranks, words } = last.moves[number];
      const sums = [place.filled, place.drained];
      return { ranks, words, kept: words, filled: 0, drained, still: true, sums };
    }),
  });
})();
