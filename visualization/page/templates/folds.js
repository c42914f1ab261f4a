// Cards of weaker concepts lie folded; without scripts, they are open.
function closeFolds(place) { for (const fold of all(".fold details", place)) fold.open = false; }

function unfold(item) {
  const fold = item.closest(".fold details");
  if (fold) fold.open = true;
}
