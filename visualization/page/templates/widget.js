// The view of a widget in a notebook: the page in a frame. The page tells what is selected in it, the model what Python selects.
const render = ({ model, el }) => {
  el.innerHTML = model.get("frame");
  const frame = el.firstElementChild;
  let known;
  const tell = () => {
    const selection = model.get("selection"), text = JSON.stringify(selection);
    if (text === known) return;
    known = text;
    frame.contentWindow.postMessage({ crpAtlas: selection }, "*");
  };
  const hear = event => {
    const told = event.source === frame.contentWindow && event.data?.crpAtlas;
    if (!told) return;
    if (told === "ready") {
      // The page has been loaded; again if the notebook has moved the frame.
      known = undefined;
      tell();
    } else {
      known = JSON.stringify(told);
      model.set("selection", told);
      model.save_changes();
    }
  };
  model.on("change:selection", tell);
  window.addEventListener("message", hear);
  return () => {
    model.off("change:selection", tell);
    window.removeEventListener("message", hear);
  };
};

export default { render };
