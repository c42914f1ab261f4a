"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tabs = all("[role=tab]"), panels = all(".panel"), maps = all(".map"), cards = all(".card"), views = all("[data-view]");
  const frames = Object.fromEntries(all("[data-frame]").map(frame => [frame.dataset.frame, frame]));
  const caption = document.querySelector(".now"), wholeCaption = caption.innerHTML;
  let chosenView = "relevance", pinned = null;

  document.body.classList.add("live");
  for (const image of all(".patch img")) image.title = image.alt;

  function show(view) {
    for (const [name, frame] of Object.entries(frames)) frame.hidden = name !== view;
    for (const button of views) button.setAttribute("aria-pressed", button.dataset.view === view);
  }

  // Lights up one concept of one layer everywhere; without a card only its cells. null: nothing is lit.
  function light(layer, concept, card) {
    for (const place of all(".map, .panel")) {
      const here = concept !== null && place.dataset.layer === layer;
      place.classList.toggle("picked", here);
      for (const item of all("[data-concept]", place)) item.classList.toggle("on", here && item.dataset.concept === concept);
    }
    if (card) {
      const picture = card.querySelector(".where");
      frames.concept.src = picture.src;
      frames.concept.alt = picture.alt;
      const share = card.querySelector("strong").textContent, word = card.querySelector(".word").textContent;
      caption.textContent = `Concept ${concept} ${word}: ${share} of the layer.`;
      show("concept");
    } else {
      caption.innerHTML = wholeCaption;
      show(chosenView);
    }
  }

  function rest() {
    if (pinned) light(pinned.dataset.layer, pinned.dataset.concept, pinned);
    else light(null, null, null);
  }

  function pin(card) {
    pinned = card;
    for (const other of cards) other.querySelector(".pick").setAttribute("aria-pressed", other === card);
    views.find(button => button.dataset.view === "concept").disabled = !card;
    rest();
  }

  function open(index) {
    panels.forEach((panel, i) => { panel.hidden = i !== index; });
    maps.forEach(map => { map.hidden = map.dataset.layer !== String(index); });
    tabs.forEach((tab, i) => { tab.setAttribute("aria-selected", i === index); tab.tabIndex = i === index ? 0 : -1; });
    pin(null);
  }

  function go(id) {
    const card = cards.find(candidate => candidate.id === id);
    if (!card) return;
    open(Number(card.dataset.layer));
    pin(card);
    card.scrollIntoView({ block: "center" });
    card.querySelector(".pick").focus({ preventScroll: true });
  }

  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => open(index));
    tab.addEventListener("keydown", event => {
      const steps = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const next = (steps[event.key] + tabs.length) % tabs.length;
      open(next);
      tabs[next].focus();
    });
  });

  for (const card of cards) {
    const preview = () => light(card.dataset.layer, card.dataset.concept, card);
    card.addEventListener("mouseenter", preview);
    card.addEventListener("mouseleave", rest);
    card.addEventListener("focusin", preview);
    card.addEventListener("focusout", rest);
    card.querySelector(".pick").addEventListener("click", () => pin(pinned === card ? null : card));
  }

  for (const map of maps) {
    for (const item of all(".region, .legend li", map)) {
      const concept = item.dataset.concept;
      const card = cards.find(other => other.dataset.layer === map.dataset.layer && other.dataset.concept === concept);
      const preview = () => light(map.dataset.layer, concept, card);
      item.addEventListener("mouseenter", preview);
      item.addEventListener("mouseleave", rest);
      item.addEventListener("focusin", preview);
      item.addEventListener("focusout", rest);
      // Not left to the link: inside a notebook's frame it would lead to the notebook.
      if (card) item.addEventListener("click", event => { event.preventDefault(); go(card.id); });
    }
  }

  for (const segment of all(".sum [data-concept]")) {
    const panel = segment.closest(".panel");
    const card = cards.find(other => panel.contains(other) && other.dataset.concept === segment.dataset.concept);
    segment.addEventListener("mouseenter", () => light(card.dataset.layer, card.dataset.concept, card));
    segment.addEventListener("mouseleave", rest);
  }

  for (const button of views) {
    button.addEventListener("click", () => {
      if (button.dataset.view !== "concept") chosenView = button.dataset.view;
      show(button.dataset.view);
    });
  }

  document.addEventListener("keydown", event => { if (event.key === "Escape") pin(null); });
  open(0);
  go(location.hash.slice(1));
})();
