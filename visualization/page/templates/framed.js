// The page in a frame of a notebook: it tells the widget around it which cells are selected, and selects those it is told.
if (window.parent !== window) {
  const chosen = () => {
    const { index, layer, tables, region } = views[current];
    return { view: index, layer: tables[layer].layer, cells: [...region.selected].sort((a, b) => a - b) };
  };
  const tell = what => window.parent.postMessage({ crpAtlas: what }, "*");
  // What the widget knows, so that an answer to it is not taken for news; and whether it is about to be told.
  let known = "", due = false;
  document.addEventListener("selected", () => {
    if (due) return;
    due = true;
    // A change of the view opens a layer first and selects its cells then: only the end counts.
    queueMicrotask(() => {
      due = false;
      const now = chosen();
      if (JSON.stringify(now) === known) return;
      known = JSON.stringify(now);
      tell(now);
    });
  });
  window.addEventListener("message", event => {
    if (event.source !== window.parent || !event.data?.crpAtlas) return;
    const { view, layer, cells } = event.data.crpAtlas, index = views[view].layerNamed(layer);
    turn(view);
    if (views[view].layer !== index) views[view].open(index);
    views[view].region.select(new Set(cells));
    known = JSON.stringify(chosen());
  });
  known = JSON.stringify(chosen());
  tell("ready");
}
