/**
 * Code in colours: comments, texts, numbers and the words that most languages share. One set of
 * rules for all languages, so that a new one needs nothing.
 */

const WORDS = new Set(
  (
    "abstract and as async await break case catch class const continue def default defer del do " +
    "elif else end enum except export extends false finally fn for from func function global go " +
    "if impl implements import in instanceof interface is lambda let loop match mod module move " +
    "mut namespace new nil none not null of or package pass private protected pub public raise " +
    "return select self static struct super switch then this throw trait true try type typeof " +
    "undefined use using var void where while with yield begin fi done esac echo insert into " +
    "update create table group order by join values"
  ).split(" "),
);
const HASH_COMMENTS =
  /^(?:py|python|sh|bash|shell|zsh|console|toml|ya?ml|ini|rb|ruby|r|make|makefile|dockerfile|perl|nginx)$/i;
const DASH_COMMENTS = /^(?:sql|lua|haskell|hs|elm)$/i;
const MARKUP = /^(?:html|xml|svg|vue)$/i;
const PLAIN = /^(?:|text|txt|plain|plaintext|output|log)$/i;

const TEXTS =
  String.raw`"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|` +
  "`(?:[^`\\\\]|\\\\.)*`";
const NUMBERS = String.raw`\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b`;
const NAMES = String.raw`[A-Za-z_$][\w$]*`;

/**
 * The code in pieces, each with its kind: `comment`, `text`, `number`, `word`, `call`, or nothing.
 *
 * @param {string} code
 * @param {string} language as the fence names it.
 * @returns {{kind: string, text: string}[]}
 */
export function highlighted(code, language) {
  if (PLAIN.test(language)) return [{ kind: "", text: code }];
  const pattern = new RegExp(`(${comments(language)})|(${TEXTS})|(${NUMBERS})|(${NAMES})`, "g");
  const pieces = [];
  let at = 0;
  for (const found of code.matchAll(pattern)) {
    if (found.index > at) pieces.push({ kind: "", text: code.slice(at, found.index) });
    at = found.index + found[0].length;
    pieces.push({ kind: kindOf(found, code[at]), text: found[0] });
  }
  if (at < code.length) pieces.push({ kind: "", text: code.slice(at) });
  return pieces;
}

function comments(language) {
  if (HASH_COMMENTS.test(language)) return "#[^\\n]*";
  if (DASH_COMMENTS.test(language)) return "--[^\\n]*";
  if (MARKUP.test(language)) return "<!--[\\s\\S]*?-->";
  if (/^css$/i.test(language)) return "/\\*[\\s\\S]*?\\*/";
  return "//[^\\n]*|/\\*[\\s\\S]*?\\*/";
}

function kindOf([, comment, text, number, name], next) {
  if (comment !== undefined) return "comment";
  if (text !== undefined) return "text";
  if (number !== undefined) return "number";
  if (WORDS.has(name) || WORDS.has(name.toLowerCase())) return "word";
  return next === "(" ? "call" : "";
}
