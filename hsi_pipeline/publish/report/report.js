/* The map of the report. All that it shows is in the page: pictures whose bytes are class codes or
   steps of a layer, and polygons in whole numbers. Text of files is set as text, never as HTML. */
(() => {
  "use strict";

  const page = JSON.parse(document.getElementById("report-data").textContent);
  const $ = (id) => document.getElementById(id);
  const [height, width] = page.size;
  const bounds = [[-height, 0], [0, width]]; // a unit is a pixel of the pictures, north is up

  const crs = L.extend({}, L.CRS.Simple, {
    distance: (a, b) => L.CRS.Simple.distance(a, b) * (page.metres || 1),
  });
  document.documentElement.classList.add("scripted");
  const touch = matchMedia("(pointer: coarse)").matches;
  const map = L.map("leaflet", {
    crs,
    attributionControl: false,
    dragging: !touch, // one finger scrolls the page, two move the map
    minZoom: -4,
    maxZoom: 5,
    scrollWheelZoom: false,
    zoomSnap: 0.1,
    zoomDelta: 1,
    wheelPxPerZoomLevel: 90,
  });
  map.fitBounds(bounds, { animate: false });
  map.setMaxBounds(L.latLngBounds(bounds).pad(0.4));
  if (page.metres) L.control.scale({ imperial: false, maxWidth: 120 }).addTo(map);
  map.getContainer().addEventListener("focus", () => map.scrollWheelZoom.enable());
  map.getContainer().addEventListener("blur", () => map.scrollWheelZoom.disable());

  // --- layers -----------------------------------------------------------------------------------

  const pane = (name, depth) => {
    const made = map.createPane(name);
    made.style.zIndex = depth;
    return made;
  };
  pane("below", 200);
  const top = pane("top", 300);
  const source = (id) => document.querySelector(`#still-${id} img`).src;
  const overlay = (id, where, sharp) =>
    L.imageOverlay(source(id), bounds, { pane: where, className: sharp ? "sharp" : "", alt: "" });
  const shown = {};

  function show(where, id, sharp) {
    if (shown[where]) shown[where].remove();
    shown[where] = id ? overlay(id, where, sharp).addTo(map) : null;
    if (where !== "top") return;
    document.querySelectorAll(".panel .legend").forEach((legend) => {
      legend.hidden = legend.dataset.layer !== id;
    });
    swipe();
  }

  function choose(name, where, sharp) {
    document.querySelectorAll(`input[name=${name}]`).forEach((input) => {
      input.addEventListener("change", () => show(where, input.value, sharp));
      if (input.checked) show(where, input.value, sharp);
    });
  }

  // --- swipe: the layer on top is cut off left of the line --------------------------------------

  const handle = $("swipe");
  function swipe() {
    const share = handle ? handle.value / 100 : 0;
    const size = map.getSize();
    const corner = map.containerPointToLayerPoint([size.x * share, 0]);
    const end = map.containerPointToLayerPoint([size.x, size.y]);
    const cut = [[corner.x, corner.y], [end.x, corner.y], [end.x, end.y], [corner.x, end.y]];
    top.style.clipPath =
      share > 0 ? `polygon(${cut.map(([x, y]) => `${x}px ${y}px`).join(",")})` : "none";
    if (!handle) return;
    $("swipe-line").style.left = `${share * 100}%`;
    handle.setAttribute("aria-valuetext", `${handle.value}% of the map shows the picture`);
  }
  if (handle) handle.addEventListener("input", swipe);
  map.on("move zoom zoomend viewreset resize", swipe);

  $("opacity").addEventListener("input", (event) => {
    top.style.opacity = event.target.value / 100;
  });
  choose("picture", "below", false);
  choose("layer", "top", true);
  swipe();

  // --- polygons ---------------------------------------------------------------------------------

  // each ring is x and y in turn, in pixels of the pictures
  const polygons = page.polygons && page.polygons.rings.map((rings) => {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    const decoded = rings.map((steps) => {
      const ring = new Float64Array(steps.length);
      for (let i = 0, x = 0, y = 0; i < steps.length; i += 2) {
        ring[i] = (x += steps[i]) / page.polygons.parts;
        ring[i + 1] = (y += steps[i + 1]) / page.polygons.parts;
        box[0] = Math.min(box[0], ring[i]); box[1] = Math.min(box[1], ring[i + 1]);
        box[2] = Math.max(box[2], ring[i]); box[3] = Math.max(box[3], ring[i + 1]);
      }
      return ring;
    });
    return { rings: decoded, box };
  });

  function trace(context, rings, corner, scale) {
    for (const ring of rings) {
      context.moveTo(corner.x + ring[0] * scale, corner.y + ring[1] * scale);
      for (let i = 2; i < ring.length; i += 2) {
        context.lineTo(corner.x + ring[i] * scale, corner.y + ring[i + 1] * scale);
      }
      context.closePath();
    }
  }

  // All lines as one path of Leaflet's canvas: a polygon of Leaflet for each takes ten times as long
  const Lines = L.Path.extend({
    options: { interactive: false, weight: 3 },
    initialize(which, strokes, options) {
      L.setOptions(this, options);
      Object.assign(this, { which, strokes });
    },
    _empty: () => false,
    _project() {
      this._pxBounds = L.bounds(...bounds.map((corner) => map.latLngToLayerPoint(corner)));
    },
    _update() { this._updatePath(); },
    _reset() { this._project(); this._update(); },
    _updatePath() {
      if (!this._renderer._drawing) return;
      const context = this._renderer._ctx, seen = this._renderer._bounds;
      const corner = map.latLngToLayerPoint([0, 0]);
      const scale = map.latLngToLayerPoint([-height, width]).x / width - corner.x / width;
      context.beginPath();
      for (const { rings, box } of this.which) {
        const [left, high, right, low] = box.map((at, i) => (i % 2 ? corner.y : corner.x) + at * scale);
        const hidden =
          right < seen.min.x || left > seen.max.x || low < seen.min.y || high > seen.max.y;
        if (!hidden) trace(context, rings, corner, scale);
      }
      context.lineJoin = "bevel";
      // a halo would hide small polygons, and takes long
      const strokes = scale < 2 && this.which.length > 1 ? this.strokes.slice(-1) : this.strokes;
      for (const [color, weight] of strokes) {
        context.strokeStyle = color;
        context.lineWidth = weight;
        context.stroke();
      }
    },
  });
  let picked = null, renderer = null, drawLater = () => {};
  if (polygons) {
    pane("outlines", 400).style.pointerEvents = "none";
    renderer = L.canvas({ pane: "outlines", padding: 0.3 });
    const strokes = [["rgba(255,255,255,.55)", 2.5], ["rgba(16,24,31,.85)", 1]];
    const lines = new Lines(polygons, strokes, { renderer });
    const box = $("polygons");
    const toggle = () => (box.checked ? lines.addTo(map) : lines.remove());
    box.addEventListener("change", toggle);
    drawLater = toggle;
  }

  function holds(polygon, y, x) {
    const [west, north, east, south] = polygon.box;
    if (x < west || x > east || y < north || y > south) return false;
    let inside = false;
    for (const ring of polygon.rings) {
      for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
        const xi = ring[i], yi = ring[i + 1], xj = ring[j], yj = ring[j + 1];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
      }
    }
    return inside;
  }

  const attribute = (column, i) =>
    column.values ? column.values[i] : column.levels[column.places[i]];

  // --- what the pictures hold -------------------------------------------------------------------

  // PNG as this report writes it: a byte a pixel, no filters, all in one chunk
  async function bytesOf(address) {
    const text = atob(address.slice(address.indexOf(",") + 1));
    const file = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) file[i] = text.charCodeAt(i);
    const view = new DataView(file.buffer);
    for (let at = 8; at < file.length; at += 12 + view.getUint32(at)) {
      if (String.fromCharCode(...file.subarray(at + 4, at + 8)) !== "IDAT") continue;
      const packed = new Blob([file.subarray(at + 8, at + 8 + view.getUint32(at))]);
      const plain = packed.stream().pipeThrough(new DecompressionStream("deflate"));
      return new Uint8Array(await new Response(plain).arrayBuffer());
    }
    throw new Error("no pixels");
  }
  const pixels = {};
  const ready = Promise.all(
    page.layers.map(async (layer) => { pixels[layer.id] = await bytesOf(source(layer.id)); }),
  );
  const byteAt = (id, row, column) => pixels[id][row * (width + 1) + column + 1];

  function valueText(layer, byte) {
    const value = (byte - 1) * layer.step;
    const most = value >= layer.high && !layer.percent ? " or more" : "";
    return layer.percent ? `${Math.round(value * 100)}%` : value.toFixed(2) + most;
  }

  // --- a click ----------------------------------------------------------------------------------

  function facts(pairs) {
    const list = document.createElement("dl");
    for (const [name, value] of pairs) {
      const term = document.createElement("dt"), told = document.createElement("dd");
      term.textContent = name;
      told.textContent = value;
      list.append(term, told);
    }
    return list;
  }

  function heading(text, color) {
    const made = document.createElement("p");
    made.className = "popup-title";
    if (color) {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = color;
      made.append(swatch);
    }
    made.append(text);
    return made;
  }

  function place(row, column) {
    const [a, b, c, d, e, f] = page.transform;
    const across = page.columns[0] + column * page.step + 0.5;
    const down = page.rows[0] + row * page.step + 0.5;
    const x = a * across + b * down + c, y = d * across + e * down + f;
    return `${x.toFixed(page.digits)}, ${y.toFixed(page.digits)}`;
  }

  async function inspect(point) {
    const row = Math.floor(-point.lat), column = Math.floor(point.lng);
    if (row < 0 || column < 0 || row >= height || column >= width) return;
    const content = document.createElement("div");
    const pairs = [];
    let title = "Unclassified", color = null;
    try {
      await ready;
      const code = byteAt("class", row, column);
      const found = page.classes.find((one) => one.code === code);
      if (found) {
        [title, color] = [found.name, found.color];
        pairs.push(["Class code", String(code)]);
      }
      for (const layer of page.layers) {
        const byte = layer.id === "class" ? 0 : byteAt(layer.id, row, column);
        if (byte) pairs.push([layer.title, valueText(layer, byte)]);
      }
    } catch (error) {
      title = "This browser cannot read the values of a pixel";
    }
    pairs.push([page.crs ? `Coordinates (${page.crs})` : "Coordinates", place(row, column)]);
    content.append(heading(title, color), facts(pairs));
    if (picked) picked.remove();
    const hits = (polygons || []).map((_, i) => i)
      .filter((i) => holds(polygons[i], -point.lat, point.lng));
    for (const i of hits.slice(-3).reverse()) { // the smallest first
      content.append(heading("Polygon"), facts(page.polygons.columns
        .map((column) => [column.name, attribute(column, i)])
        .filter(([, value]) => value !== null).map(([name, value]) => [name, String(value)])));
    }
    if (hits.length) {
      const strokes = [["#fff", 5], ["#e8590c", 3]];
      picked = new Lines([polygons[hits[hits.length - 1]]], strokes, { renderer }).addTo(map);
    }
    const most = Math.max(150, map.getSize().y * 0.6);
    L.popup({ maxWidth: 280, maxHeight: most, autoPanPadding: [12, 12] })
      .setLatLng(point).setContent(content).openOn(map);
    $("said").textContent = [title, ...pairs.map((pair) => pair.join(" "))].join(", ");
  }
  map.on("click", (event) => inspect(event.latlng));
  map.on("popupclose", () => { if (picked) picked.remove(); picked = null; });

  // with the keyboard a cross shows what Enter would ask for
  const container = map.getContainer();
  const aim = (on) => container.classList.toggle("aiming", on);
  container.addEventListener("keyup", () => aim(true));
  container.addEventListener("pointerdown", () => aim(false));
  map.on("popupopen", () => aim(false));
  container.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target !== container) return;
    event.preventDefault();
    inspect(map.getCenter());
  });

  // --- the page around it -----------------------------------------------------------------------

  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  ready.catch(() => {}).then(() => {
    performance.mark("map-ready");
    setTimeout(drawLater); // thousands of lines take their time
  });
  window.report = { map };
})();
