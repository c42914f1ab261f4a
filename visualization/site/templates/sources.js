// Patches of a concept lead to the pictures that they are parts of. These are not part of the site: a page that was
// published does not have them.
if (location.protocol === "file:") {
  for (const figure of all("[data-source]")) {
    // A patch that plays holds a button, which cannot lie in a link.
    const part = figure.querySelector("b:not(.heard)") ?? figure.querySelector("figcaption bdi"), link = element("a", { href: figure.dataset.source });
    part.replaceWith(link);
    link.append(part);
  }
}
