"use strict";
// The ball-and-stick view: spheres and sticks sorted by depth on a 2D canvas, with a little perspective.
(() => {
  const CAMERA = 5;      // distance of the eye, in radii of the molecule
  const STICK = 0.13;    // half width of a bond, in Å
  const START = multiply(turn(0, -0.35), turn(1, 0.4));

  function turn(axis, angle) {
    const c = Math.cos(angle), s = Math.sin(angle);
    return axis === 0 ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  }
  function multiply(a, b) {
    return a.map(row => b[0].map((_, j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
  }
  function mix(hex, other, share) {
    const parts = [1, 3, 5].map((i, k) => {
      const value = parseInt(hex.slice(i, i + 2), 16);
      return Math.round(value + (other[k] - value) * share);
    });
    return `rgb(${parts.join(",")})`;
  }

  function show(box) {
    const canvas = box.querySelector("canvas");
    const scene = JSON.parse(box.querySelector("script").textContent);
    const pen = canvas.getContext("2d");
    const reach = Math.max(1.5, ...scene.atoms.map(a => Math.hypot(...a.position) + a.radius));
    const extent = row => Math.max(1.5, ...scene.atoms.map(a =>
      Math.abs(START[row].reduce((sum, value, axis) => sum + value * a.position[axis], 0)) + a.radius));
    const wide = extent(0), tall = extent(1);
    let rotation = START, zoom = 1, queued = false, labelled = -1, drawn = [];

    function resize() {
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.round(canvas.clientWidth * scale);
      canvas.height = Math.round(canvas.clientHeight * scale);
      redraw();
    }
    function redraw() {
      if (queued) return;
      queued = true;
      requestAnimationFrame(() => { queued = false; draw(); });
    }

    function draw() {
      const scale = window.devicePixelRatio || 1, width = canvas.width / scale, height = canvas.height / scale;
      const style = getComputedStyle(canvas), fog = style.backgroundColor.match(/[\d.]+/g).slice(0, 3).map(Number);
      const unit = zoom * 0.42 * Math.min(width / wide, height / tall);
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, width, height);
      drawn = scene.atoms.map((atom, index) => {
        const [x, y, z] = rotation.map(row => row[0] * atom.position[0] + row[1] * atom.position[1] + row[2] * atom.position[2]);
        const near = CAMERA * reach / (CAMERA * reach - z) * unit;
        return { atom, index, z, near, x: width / 2 + x * near, y: height / 2 - y * near,
                 radius: atom.radius * near, haze: 0.38 * (1 - (z / reach + 1) / 2) };
      });
      const parts = drawn.map(ball => ({ z: ball.z, paint: () => sphere(ball, fog) }));
      for (const [i, j] of scene.bonds) {
        const a = drawn[i], b = drawn[j], middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
        parts.push({ z: (3 * a.z + b.z) / 4 - 0.05, paint: () => stick(a, middle, a, fog) });
        parts.push({ z: (a.z + 3 * b.z) / 4 - 0.05, paint: () => stick(b, middle, b, fog) });
      }
      parts.sort((a, b) => a.z - b.z).forEach(part => part.paint());
      if (labelled >= 0) label(drawn[labelled], style.color);
    }
    function sphere(ball, fog) {
      const { x, y, radius: r, atom, haze } = ball;
      const light = pen.createRadialGradient(x - 0.35 * r, y - 0.4 * r, 0.05 * r, x, y, r);
      light.addColorStop(0, mix(mix6(atom.color, [255, 255, 255], 0.6), fog, haze));
      light.addColorStop(0.45, mix(atom.color, fog, haze));
      light.addColorStop(1, mix(mix6(atom.color, [20, 28, 40], 0.45), fog, haze));
      pen.fillStyle = light;
      pen.beginPath();
      pen.arc(x, y, r, 0, 2 * Math.PI);
      pen.fill();
    }
    function stick(from, to, ball, fog) {
      const dx = to.x - from.x, dy = to.y - from.y, length = Math.hypot(dx, dy);
      if (length < 1e-6) return;
      const half = STICK * ball.near, nx = -dy / length * half, ny = dx / length * half;
      const across = pen.createLinearGradient(from.x + nx, from.y + ny, from.x - nx, from.y - ny);
      const dark = mix(mix6(ball.atom.color, [20, 28, 40], 0.45), fog, ball.haze);
      across.addColorStop(0, dark);
      across.addColorStop(0.4, mix(mix6(ball.atom.color, [255, 255, 255], 0.35), fog, ball.haze));
      across.addColorStop(1, dark);
      pen.fillStyle = across;
      pen.beginPath();
      pen.moveTo(from.x + nx, from.y + ny);
      pen.lineTo(to.x + nx, to.y + ny);
      pen.lineTo(to.x - nx, to.y - ny);
      pen.lineTo(from.x - nx, from.y - ny);
      pen.fill();
    }
    function mix6(hex, other, share) {
      const parts = mix(hex, other, share).match(/\d+/g).map(Number);
      return "#" + parts.map(value => value.toString(16).padStart(2, "0")).join("");
    }
    function label(ball, ink) {
      pen.font = "600 13px system-ui, sans-serif";
      pen.fillStyle = ink;
      pen.fillText(`${ball.atom.symbol} ${ball.index + 1}`, ball.x + ball.radius + 4, ball.y - ball.radius);
    }

    function rotate(dx, dy) { rotation = multiply(multiply(turn(0, dy), turn(1, dx)), rotation); redraw(); }
    function scaleBy(factor) { zoom = Math.min(6, Math.max(0.4, zoom * factor)); redraw(); }
    function press(key) {
      const step = 0.15;
      const actions = {
        ArrowLeft: () => rotate(-step, 0), ArrowRight: () => rotate(step, 0),
        ArrowUp: () => rotate(0, -step), ArrowDown: () => rotate(0, step),
        "+": () => scaleBy(1.2), "=": () => scaleBy(1.2), "-": () => scaleBy(1 / 1.2),
        "0": () => { rotation = START; zoom = 1; redraw(); },
      };
      if (!actions[key]) return false;
      actions[key]();
      return true;
    }

    const fingers = new Map();
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", event => {
      const before = fingers.get(event.pointerId);
      if (!before) {
        const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
        const under = drawn.filter(b => Math.hypot(b.x - x, b.y - y) < b.radius).sort((a, b) => b.z - a.z)[0];
        const found = under ? under.index : -1;
        if (found !== labelled) { labelled = found; redraw(); }
        return;
      }
      if (fingers.size === 2) {
        const other = [...fingers.values()].find(f => f.pointerId !== event.pointerId);
        const spread = f => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
        scaleBy(spread(event) / Math.max(spread(before), 1));
      } else {
        rotate((event.clientX - before.clientX) * 0.011, (event.clientY - before.clientY) * 0.011);
      }
      fingers.set(event.pointerId, event);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, event => fingers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => { labelled = -1; redraw(); });
    canvas.addEventListener("wheel", event => {
      // A page must scroll past the molecule: the wheel zooms once it was clicked, or with Ctrl.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      scaleBy(Math.exp(-event.deltaY * 0.0015));
    }, { passive: false });
    canvas.addEventListener("keydown", event => { if (press(event.key)) event.preventDefault(); });
    box.querySelectorAll("button").forEach(b => b.addEventListener("click", () => press(b.dataset.key)));
    new ResizeObserver(resize).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    resize();
    draw();
    box.dataset.atoms = drawn.length;
  }

  document.querySelectorAll(".viewer").forEach(show);
  document.documentElement.dataset.scripts = "ran";
})();
