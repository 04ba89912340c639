// One layer: its nest drawn with tiles and buffers, and the nest running, step by step.
(() => {
  "use strict";
  const tw = window.tilewright;
  const { el, svg } = tw;

  const colourOf = (work, name) => {
    const number = work.operands.findIndex((operand) => operand.name === name);
    return `var(--o${(number % 4) + 1})`;
  };
  const chip = (work, name) =>
    el("span", { class: "operand", style: { background: colourOf(work, name) } }, name);

  const indexes = (work, dim) =>
    work.operands.filter((operand) => operand.ranks.some((rank) => dim in rank.terms));

  // ------------------------------------------------------------------ the nest as it is written

  tw.drawNest = (layer, hardware, rules) => {
    if (!layer.blocks) return null;
    if (!layer.work) return el("pre", { tabindex: "0", class: "mapping" }, layer.mapping);
    const { work, blocks } = layer;
    const nest = tw.flatten(blocks);
    const touch = tw.toucher({ ...rules, padding: true });
    const home = el("div", { class: "nest", tabindex: "0", role: "region", "aria-label": "Loop nest" });
    let inside = home;
    let place = 0;
    for (const block of blocks) {
      inside.append(blockBox(block, layer, hardware, nest, touch, place));
      for (const [dim, extent, axis] of block.loops) {
        if (extent <= 1) continue;
        const nested = el("div", { class: axis ? "body parallel" : "body" });
        inside.append(loopLine(work, dim, extent, axis, nest.loops[place].step), nested);
        inside = nested;
        place += 1;
      }
    }
    inside.append(el("div", { class: "mac" }, work.einsum));
    return home;
  };

  const loopLine = (work, dim, extent, axis, step) => {
    const touched = indexes(work, dim);
    const dots = touched.map((operand) =>
      el("i", {
        class: "dot",
        style: { background: colourOf(work, operand.name) },
        title: `moves ${operand.name}`,
      })
    );
    const words = axis ? `parallel-for ${dim} in ${extent} on ${axis}` : `for ${dim} in ${extent}`;
    const names = touched.map((operand) => operand.name).join(", ");
    return el(
      "div",
      { class: axis ? "loop spatial" : "loop" },
      el("code", {}, words),
      step > 1 ? el("span", { class: "by" }, `by ${tw.count(step)}`) : null,
      el("span", { class: "dots" }, dots, el("span", { class: "hidden" }, `moves ${names}`))
    );
  };

  const levelOf = (hardware, memory) =>
    ((hardware && hardware.levels) || []).find((level) => level.memory === memory) || {};

  const blockBox = (block, layer, hardware, nest, touch, place) => {
    const { work } = layer;
    const level = levelOf(hardware, block.memory);
    const start = nest.loops.map(() => 0);
    const box = tw.boxAt(nest, work.sizes, place, start);
    const tiles = block.operands.map((name) => {
      const operand = work.operands.find((each) => each.name === name);
      const ranks = largest(operand, touch(operand, box));
      const words = given(layer, block.memory, name) || tw.wordsOf(ranks);
      const psum = operand.output && Math.max(work.psum_bits || 0, operand.bits);
      return { name, words, ranks, operand, bits: words * (psum || operand.bits) };
    });
    const room = level.usable_bits || (typeof level.capacity_bits === "number" && level.capacity_bits);
    const many = level.instances > 1 ? `${tw.count(level.instances)} of them` : "";
    return el(
      "div",
      { class: "block" },
      el(
        "div",
        { class: "block-head" },
        el("strong", {}, block.memory),
        el("span", { class: "muted" }, many),
        el("span", { class: "muted room" }, roomText(tiles, room))
      ),
      tiles.length && room ? fill(work, tiles, room) : null,
      el(
        "ul",
        { class: "tiles" },
        tiles.map((tile) =>
          el(
            "li",
            {},
            chip(work, tile.name),
            el("b", {}, `${tw.count(tile.words)} words`),
            el("span", { class: "muted" }, shape(tile))
          )
        ),
        tiles.length ? null : el("li", { class: "muted" }, "keeps nothing here")
      )
    );
  };

  // A tile in the middle of the tensor: the first one may lie on padding, which is no data.
  const largest = (operand, ranks) =>
    ranks.map((rank, number) => {
      const { data } = operand.ranks[number];
      return data ? { ...rank, count: Math.min(rank.count, data[1] - data[0]) } : rank;
    });

  // The largest tile as the document counts it.
  const given = (layer, memory, operand) => {
    const level = layer.levels.find((each) => each.memory === memory);
    return level && level.operands[operand] && level.operands[operand].tile_words;
  };

  const shape = (tile) =>
    tile.operand.ranks.map((rank, n) => `${rankName(rank)} ${tw.count(tile.ranks[n].count)}`).join(" × ");
  const rankName = (rank) =>
    Object.entries(rank.terms)
      .map(([dim, factor]) => (factor > 1 ? `${factor}${dim}` : dim))
      .join("+");

  const roomText = (tiles, room) => {
    const used = tiles.reduce((sum, tile) => sum + tile.bits, 0) / 8;
    if (!room) return tiles.length ? `${tw.bytes(used)}, unlimited` : "";
    return `${tw.bytes(used)} of ${tw.bytes(room / 8)}, ${tw.percent((8 * used) / room)}`;
  };

  const fill = (work, tiles, room) =>
    el(
      "div",
      { class: "fill", "aria-hidden": "true" },
      tiles.map((tile) =>
        el("span", {
          style: {
            width: `${Math.min(100, (100 * tile.bits) / room)}%`,
            background: colourOf(work, tile.name),
          },
        })
      )
    );

  // ------------------------------------------------------------------------- the nest as it runs

  tw.drawSteps = (layer, hardware, rules) => {
    if (!layer.blocks || !layer.work) return null;
    const outer = layer.blocks[0].memory;
    const memories = [
      ...new Set(
        layer.blocks.filter((b) => b.memory !== outer && b.operands.length).map((b) => b.memory)
      ),
    ];
    if (!memories.length) return el("p", { class: "muted" }, "No buffer on the chip keeps a tile.");
    return new Steps(layer, hardware, rules, memories).home;
  };

  const ICONS = {
    first: "M3 4v12M10 4 5 10l5 6zM17 4l-5 6 5 6z",
    back: "M5 4v12M15 4 8 10l7 6z",
    play: "M6 3.500 16 10 6 16.500z",
    pause: "M6 4v12M13 4v12",
    on: "M5 4l7 6-7 6zM15 4v12",
    skip: "M4 4l6 6-6 6zM10 4l6 6-6 6z",
  };
  const icon = (name) =>
    svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

  class Steps {
    constructor(layer, hardware, rules, memories) {
      Object.assign(this, { layer, hardware, rules, memory: memories[0], at: 0, speed: 4 });
      this.timer = null;
      this.said = el("p", { class: "said", "aria-live": "polite" });
      this.stage = el("div");
      this.slider = el("input", {
        type: "range",
        min: 0,
        value: 0,
        "aria-label": "Step of the nest",
        oninput: (event) => this.go(Number(event.target.value)),
      });
      const watch = tw.select(
        "Watch the tiles of",
        memories.map((name) => [name, name]),
        this.memory,
        (memory) => this.choose(memory)
      );
      const speeds = [[1, "slow"], [4, "normal"], [16, "fast"]];
      const speed = tw.select("Speed", speeds, 4, (value) => this.setSpeed(Number(value)));
      const button = (label, sign, act) =>
        el("button", { type: "button", "aria-label": label, title: label, onclick: act }, icon(sign));
      this.playing = button("Play", "play", () => this.toggle());
      const buttons = el(
        "span",
        { class: "buttons" },
        button("First step", "first", () => this.jump(0)),
        button("Step back", "back", () => this.jump(this.at - 1)),
        this.playing,
        button("Step on", "on", () => this.jump(this.at + 1)),
        button("Next step of an outer loop", "skip", () => this.skip())
      );
      this.home = el(
        "div",
        { class: "steps" },
        el("div", { class: "controls" }, watch, speed, buttons, this.slider),
        this.said,
        this.stage
      );
      this.choose(this.memory);
    }

    choose(memory) {
      this.stop();
      this.memory = memory;
      this.position = { x: 0, y: 0 };
      this.rebuild({});
      this.go(0);
    }

    rebuild(instance) {
      const { work, blocks } = this.layer;
      this.walked = tw.walk(work, blocks, this.rules, this.memory, instance);
      this.slider.max = this.walked.steps.length - 1;
      this.build();
    }

    // Watch another copy of the memory, at the same step.
    watch(position, axis) {
      this.stop();
      this.position = position;
      this.rebuild(this.grid.at(position));
      this.go(this.at);
      this.grid.inputs[axis].focus({ preventScroll: true });
    }

    setSpeed(speed) {
      this.speed = speed;
      if (this.timer) {
        this.stop();
        this.toggle();
      }
    }

    toggle() {
      if (this.timer) {
        this.stop();
        return;
      }
      if (this.at >= this.walked.steps.length - 1) this.go(0);
      this.playing.replaceChildren(icon("pause"));
      this.playing.setAttribute("aria-label", "Pause");
      this.said.setAttribute("aria-live", "off");
      this.timer = setInterval(() => {
        if (this.at >= this.walked.steps.length - 1 || !this.home.isConnected) this.stop();
        else this.go(this.at + 1);
      }, 1000 / this.speed);
    }

    stop() {
      clearInterval(this.timer);
      this.timer = null;
      this.playing.replaceChildren(icon("play"));
      this.playing.setAttribute("aria-label", "Play");
      this.said.setAttribute("aria-live", "polite");
    }

    jump(at) {
      this.stop();
      this.go(at);
    }

    // On to the next step that a loop other than the innermost takes.
    skip() {
      this.stop();
      const { steps, temporal } = this.walked;
      const innermost = temporal[temporal.length - 1];
      let at = this.at + 1;
      while (at < steps.length - 1 && steps[at].by === innermost) at += 1;
      this.go(at);
    }

    go(at) {
      const last = this.walked.steps.length - 1;
      this.at = Math.max(0, Math.min(last, at));
      this.slider.value = this.at;
      this.show();
    }

    build() {
      const { walked } = this;
      this.loops = walked.temporal.map((place) => this.loopRow(walked.nest.loops[place]));
      this.maps = this.layer.work.operands.map((operand) => new TileMap(this, operand));
      this.rows = walked.places.map((place) => this.moveRow(place));
      const memories = [...new Set(walked.places.map((place) => place.memory))];
      const order = this.layer.blocks.map((block) => block.memory);
      memories.sort((one, other) => order.indexOf(one) - order.indexOf(other));
      const cards = memories.map((memory) => {
        const rows = this.rows.filter((row, number) => walked.places[number].memory === memory);
        return el(
          "div",
          { class: "buffer" },
          el("h4", {}, memory),
          rows.map((row) => row.home)
        );
      });
      this.grid = this.sharing();
      this.stage.replaceChildren(
        el("div", { class: "loops", role: "group", "aria-label": "Loops" }, this.loops.map((l) => l.home)),
        el("div", { class: "maps" }, this.maps.map((map) => map.home)),
        el("div", { class: "buffers" }, cards),
        ...(this.grid ? [this.grid.home] : []),
        el("p", { class: "muted small" }, this.bound())
      );
    }

    bound() {
      const { steps, total, complete } = this.walked;
      const shown = steps.length - (complete ? 1 : 0);
      const whole = complete
        ? `All ${tw.count(total)} steps of the loops outside ${this.memory}'s tiles, then the end.`
        : `The first ${tw.count(shown)} of ${tw.count(total)} steps of the loops outside ${this.memory}'s tiles.`;
      return `${whole} Words are those of one instance, by the rule “${this.rules.reuse}”.`;
    }

    loopRow(loop) {
      const bar = el("span");
      const text = el("code");
      const home = el("div", { class: "loop-row" }, text, el("div", { class: "bar" }, bar));
      const update = (index, moved) => {
        text.textContent = `${loop.dim} ${index + 1} of ${loop.extent}`;
        bar.style.width = `${(100 * (index + 1)) / loop.extent}%`;
        home.classList.toggle("moved", moved);
      };
      return { home, update };
    }

    moveRow(place) {
      const where = el("span", { class: "where" });
      const words = el("span", { class: "now" });
      const sums = el("span", { class: "muted sums" });
      const home = el(
        "div",
        { class: "move" },
        chip(this.layer.work, place.operand.name),
        el("div", {}, where, words, place.parent === null ? null : sums)
      );
      const update = (move, end) => {
        where.textContent = ranges(place.operand, move.ranks);
        words.textContent = place.parent === null ? "the whole tensor" : sentence(place, move, end);
        home.classList.toggle("moved", move.filled + move.drained > 0 || (!move.still && !end));
        const [filled, drained] = move.sums;
        sums.textContent =
          `so far ${tw.count(filled)} in` + (place.operand.output ? `, ${tw.count(drained)} out` : "");
      };
      return { home, update };
    }

    show() {
      const { walked, at } = this;
      const step = walked.steps[at];
      walked.temporal.forEach((place, number) =>
        this.loops[number].update(step.index[place], step.by === place)
      );
      this.rows.forEach((row, number) => row.update(step.moves[number], step.end));
      this.maps.forEach((map) => map.update(step, at ? walked.steps[at - 1] : null));
      if (this.grid) this.grid.update(step);
      this.said.textContent = this.told(step);
    }

    told(step) {
      const { walked, at } = this;
      const count = `Step ${tw.count(at + 1)} of ${tw.count(walked.steps.length)}`;
      if (step.end) return `${count}: the end. Results leave the buffers.`;
      const moved = walked.places
        .map((place, number) => [place, step.moves[number]])
        .filter(([place, move]) => place.parent !== null && move.filled + move.drained > 0)
        .map(([place, move]) => {
          const into = move.filled ? `${tw.count(move.filled)} words of ${place.operand.name} into ${place.memory}` : "";
          const out = move.drained ? `${tw.count(move.drained)} words of ${place.operand.name} out of ${place.memory}` : "";
          return [into, out].filter(Boolean).join(", ");
        });
      const loop = step.by >= 0 ? `the loop over ${walked.nest.loops[step.by].dim} steps` : "the first tiles are loaded";
      return `${count}: ${loop}; ${moved.length ? moved.join("; ") : "nothing moves"}.`;
    }

    // Which instances of the memory hold the same tile as the one that is watched.
    sharing() {
      const { nest, depth } = this.walked;
      const spatial = nest.loops
        .map((loop, place) => ({ loop, place }))
        .filter(({ loop, place }) => loop.axis && place < depth);
      if (!spatial.length) return null;
      return new Sharing(this, spatial);
    }
  }

  const ranges = (operand, ranks) =>
    operand.ranks
      .map((rank, number) => {
        const { count } = ranks[number];
        const [low, high] = [ranks[number].low, ranks[number].high].map((at) => at - (rank.data ? rank.data[0] : 0));
        const span = low === high ? low : `${low}–${high}`;
        return `${rankName(rank)} ${count ? span : "padding"}`;
      })
      .join("  ");

  const sentence = (place, move, end) => {
    const parts = [];
    if (end) return move.drained ? `↑ ${tw.count(move.drained)} words leave to ${place.parent}` : "done";
    if (move.still && !move.filled) return `stays: ${tw.count(move.words)} words`;
    if (move.drained) parts.push(`↑ ${tw.count(move.drained)} leave to ${place.parent}`);
    if (move.filled) parts.push(`↓ ${tw.count(move.filled)} from ${place.parent}`);
    if (move.kept) parts.push(`${tw.count(move.kept)} kept`);
    if (place.operand.output && !move.filled && !move.kept) {
      parts.push(`${tw.count(move.words)} begin at zero`);
    }
    return parts.join(", ");
  };

  // A tensor seen along the two ranks whose tiles move most, with the tile of every buffer in it.
  class TileMap {
    constructor(steps, operand) {
      this.steps = steps;
      this.operand = operand;
      const { work } = steps.layer;
      const { nest, depth, places } = steps.walked;
      const whole = tw.toucher(steps.rules)(
        operand,
        tw.boxAt(nest, work.sizes, 0, nest.loops.map(() => 0))
      );
      this.whole = whole;
      this.axes = axesOf(operand, whole, nest, depth);
      this.places = places
        .map((place, number) => ({ place, number }))
        .filter(({ place }) => place.operand === operand && place.parent !== null);
      const [width, height] = [220, this.axes[1] === null ? 44 : 150];
      Object.assign(this, { width, height });
      const colour = colourOf(work, operand.name);
      this.kept = svg("rect", { class: "kept" });
      this.rects = this.places.map(({ place }) => {
        const rect = svg("rect", { class: "tile", style: `fill:${colour};stroke:${colour}` });
        rect.append(svg("title", {}, place.memory));
        return rect;
      });
      const names = this.axes.map((axis) => (axis === null ? "" : rankName(operand.ranks[axis])));
      const sizes = this.axes.map((axis) => (axis === null ? 0 : whole[axis].high - whole[axis].low + 1));
      const drawing = svg(
        "svg",
        {
          viewBox: `0 0 ${width} ${height}`,
          role: "img",
          "aria-label": `Where the tiles of ${operand.name} lie`,
        },
        svg("rect", { class: "tensor", x: 0.5, y: 0.5, width: width - 1, height: height - 1 }),
        ...this.rects,
        this.kept
      );
      const across = `${names[0]} → ${tw.count(sizes[0])}`;
      const down = this.axes[1] === null ? "" : `${names[1]} ↓ ${tw.count(sizes[1])}`;
      this.home = el(
        "figure",
        { class: "map" },
        el("figcaption", {}, chip(work, operand.name), el("span", { class: "muted" }, `${across}  ${down}`)),
        drawing
      );
    }

    rect(ranks) {
      const span = (axis, length) => {
        if (axis === null) return [2, length - 4];
        const { low, high } = this.whole[axis];
        const unit = length / (high - low + 1);
        const from = (ranks[axis].low - low) * unit;
        const size = (ranks[axis].high - ranks[axis].low + 1) * unit;
        return [Math.min(from, length - 3), Math.max(3, size)];
      };
      const [x, width] = span(this.axes[0], this.width);
      const [y, height] = span(this.axes[1], this.height);
      return { x, y, width, height };
    }

    update(step, before) {
      this.places.forEach(({ number }, which) => {
        const empty = step.moves[number].ranks.some((rank) => !rank.count);
        place(this.rects[which], empty ? null : this.rect(step.moves[number].ranks));
      });
      const inner = this.places[this.places.length - 1];
      const move = inner && step.moves[inner.number];
      const shown = move && before && !move.still && move.kept > 0;
      place(this.kept, shown ? overlap(this.rect(move.ranks), this.rect(before.moves[inner.number].ranks)) : null);
    }
  }

  const place = (rect, box) => {
    rect.style.display = box ? "" : "none";
    if (box) for (const [name, value] of Object.entries(box)) rect.setAttribute(name, value.toFixed(2));
  };

  const overlap = (one, other) => {
    const x = Math.max(one.x, other.x);
    const y = Math.max(one.y, other.y);
    const width = Math.min(one.x + one.width, other.x + other.width) - x;
    const height = Math.min(one.y + one.height, other.y + other.height) - y;
    return width > 0 && height > 0 ? { x, y, width, height } : null;
  };

  const axesOf = (operand, whole, nest, depth) => {
    const weight = operand.ranks.map((rank, number) => {
      const extent = whole[number].high - whole[number].low + 1;
      const moves = nest.loops
        .filter((loop, at) => at < depth && !loop.axis && loop.dim in rank.terms)
        .reduce((product, loop) => product * loop.extent, 1);
      return { number, extent, moves };
    });
    const best = weight
      .filter((rank) => rank.extent > 1)
      .sort((one, other) => other.moves - one.moves || other.extent - one.extent)
      .slice(0, 2)
      .map((rank) => rank.number)
      .sort((one, other) => other - one);
    return [best.length ? best[0] : null, best.length > 1 ? best[1] : null];
  };

  // The copies of a memory on the fan-outs above it, and which share a tile with the chosen one.
  class Sharing {
    constructor(steps, spatial) {
      Object.assign(this, { steps, spatial });
      this.extents = { x: 1, y: 1 };
      for (const { loop } of spatial) this.extents[loop.axis] *= loop.extent;
      const { work } = steps.layer;
      this.places = steps.walked.places
        .map((each, number) => ({ place: each, number }))
        .filter(({ place: each }) => each.memory === steps.memory);
      this.touch = tw.toucher(steps.rules);
      this.inputs = {};
      const numbers = ["x", "y"]
        .filter((axis) => this.extents[axis] > 1)
        .map((axis) => this.number(axis));
      this.maps = this.places.map(({ place: each }) => this.map(each.operand));
      const heading = `Copies of ${steps.memory}: which hold the same tile`;
      this.home = el(
        "div",
        { class: "sharing" },
        el("h4", {}, heading),
        el("div", { class: "controls" }, numbers),
        el("div", { class: "maps" }, this.maps.map((map) => map.home))
      );
    }

    // The index of every spatial loop for a place on the array; outer loops count slower.
    at(position) {
      const rest = { ...position };
      const index = {};
      for (const { loop, place: where } of [...this.spatial].reverse()) {
        index[where] = rest[loop.axis] % loop.extent;
        rest[loop.axis] = Math.floor(rest[loop.axis] / loop.extent);
      }
      return index;
    }

    number(axis) {
      const input = el("input", {
        type: "number",
        min: 0,
        max: this.extents[axis] - 1,
        value: this.steps.position[axis],
        id: `copy-${axis}-${Math.random().toString(36).slice(2)}`,
        onchange: (event) => {
          const value = Math.max(0, Math.min(this.extents[axis] - 1, Math.floor(Number(event.target.value) || 0)));
          this.steps.watch({ ...this.steps.position, [axis]: value }, axis);
        },
      });
      this.inputs[axis] = input;
      return el("span", { class: "control" }, el("label", { for: input.id }, `copy ${axis}`), input);
    }

    map(operand) {
      const { x, y } = this.extents;
      const [columns, rows] = [Math.min(x, 32), Math.min(y, 32)];
      const cell = 10;
      const cells = [];
      for (let row = 0; row < rows; row += 1) {
        for (let column = 0; column < columns; column += 1) {
          const box = { x: column * cell + 1, y: row * cell + 1, width: cell - 2, height: cell - 2, rx: 1.5 };
          cells.push({ rect: svg("rect", box), x: column, y: row });
        }
      }
      const { work } = this.steps.layer;
      const words = el("span", { class: "muted" });
      const drawing = svg(
        "svg",
        {
          viewBox: `0 0 ${columns * cell} ${rows * cell}`,
          role: "img",
          "aria-label": `Copies that share a tile of ${operand.name}`,
          style: `max-width:${columns * 16}px; --fill:${colourOf(work, operand.name)}`,
          class: "copies",
        },
        ...cells.map((each) => each.rect)
      );
      const home = el("figure", { class: "map" }, el("figcaption", {}, chip(work, operand.name), words), drawing);
      return { home, cells, words, operand };
    }

    update(step) {
      const { nest } = this.steps.walked;
      const { work } = this.steps.layer;
      const { position } = this.steps;
      const mine = this.at(position);
      this.maps.forEach((map, which) => {
        const { place: each } = this.places[which];
        const tileAt = (spatial) => {
          const index = step.index.map((value, where) => (where in spatial ? spatial[where] : value));
          return this.touch(map.operand, tw.boxAt(nest, work.sizes, each.depth, index));
        };
        const own = tileAt(mine);
        let count = 0;
        for (const cell of map.cells) {
          const shared = tw.sameTile(own, tileAt(this.at(cell)));
          const chosen = cell.x === position.x && cell.y === position.y;
          cell.rect.setAttribute("class", `${shared ? "shared" : "other"} ${chosen ? "mine" : ""}`);
          count += shared ? 1 : 0;
        }
        map.words.textContent = `${count} of ${map.cells.length} hold it`;
      });
    }
  }
})();
