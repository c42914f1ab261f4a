// A share as pages print it: to a tenth of a percent, the size rounded and not the signed number.
const inTenths = share => Math.sign(share) * Math.round(Math.abs(share) * 1000) / 1000;
const printed = share => signed(inTenths(share));
const side = share => share > 0 ? "supports" : share < 0 ? "opposes" : "";

// Files that a reader takes along.
function download(name, content, kind) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function csv(rows) {
  // A cell that begins like a formula would be computed by a spreadsheet.
  const cell = value => { const text = String(value ?? ""), safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
  return rows.map(row => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// Copies the address, and says on the button that it did.
async function copyAddress(button, address = location.href) {
  try { await navigator.clipboard.writeText(address); }
  catch {
    const field = element("textarea", { class: "unseen" });
    field.value = address;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
}
