// Elements, times and colours.

// h("td", {class: "mono"}, "text", element, …): attributes that begin with "on" are listeners; false and null are left out.
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

export function ago(seconds) {
  const past = Math.max(0, Date.now() / 1000 - seconds);
  if (!seconds) return "never";
  if (past < 60) return `${Math.floor(past)} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86400) return `${Math.floor(past / 3600)} h ago`;
  return `${Math.floor(past / 86400)} d ago`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

// The class of a host's colour.
export function hue(host) {
  let sum = 0;
  for (const letter of host) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return `hue-${sum % 12}`;
}

export const hostName = (host) => [h("span", { class: `dot ${hue(host)}` }), host];

// "what is wrong; what to do" as two texts.
export function parted(problem) {
  const at = problem.indexOf("; ");
  return at < 0 ? [problem, ""] : [problem.slice(0, at), problem.slice(at + 2)];
}
