/** The chat: connects the conversations, the page's parts and the server. */

import { answerOverHttp } from "./chat/answer_stream.js";
import { AnswerView } from "./chat/answer_view.js";
import { Composer } from "./chat/composer.js";
import { newConversation, openCalls, titleOf } from "./chat/conversation.js";
import { FailureView } from "./chat/failure_view.js";
import { Library } from "./chat/library.js";
import { ModelPicker } from "./chat/model_picker.js";
import { Panel } from "./chat/panel.js";
import { OptionProblem, requestBody } from "./chat/request.js";
import { RequestPane } from "./chat/request_pane.js";
import { Run } from "./chat/run.js";
import { Sidebar } from "./chat/sidebar.js";
import { answerOverSocket } from "./chat/socket.js";
import { ConversationStore } from "./chat/store.js";
import { Thread } from "./chat/thread.js";
import { Client } from "./lib/client.js";
import { h } from "./lib/dom.js";
import { Drawer } from "./lib/drawer.js";
import { Failure } from "./lib/failure.js";
import { startLanguage, t } from "./lib/i18n.js";
import { askForKey } from "./lib/key_dialog.js";
import { iconButton, languagePicker, themePicker } from "./lib/page_controls.js";
import { KeyRing, preference, setPreference } from "./lib/preferences.js";
import { toast } from "./lib/toast.js";

const LOADING_MS = 2000;
const AGAIN_MS = 5000;
const SPOKEN_LETTERS = 400;

class Chat {
  constructor() {
    this.keys = new KeyRing("key");
    this.client = new Client(this.keys);
    this.library = new Library(new ConversationStore(), {
      onChange: () => this.#list(),
      onLost: () => toast(t("store.failed")),
    });
    this.current = newConversation();
    this.runs = new Map();
    this.transport = preference("transport", "sse");
    this.picker = new ModelPicker(() => this.#settingsChanged());
    this.request = new RequestPane(() => ({
      body: this.#shownBody(),
      hasKey: this.keys.value !== "",
    }));
    this.#build();
  }

  /** Show what is kept, and ask for the models. */
  async start() {
    await this.library.load();
    this.#open(this.library.find(preference("conversation", "")) ?? newConversation());
    await this.#loadModels();
    document.addEventListener("visibilitychange", () => this.#loadModels());
  }

  #build() {
    const byId = (id) => document.getElementById(id);
    this.announcer = byId("announcer");
    this.sidebar = new Sidebar(byId("sidebar"), {
      onNew: () => this.#open(newConversation(this.current.options)),
      onOpen: (id) => this.#open(this.library.find(id)),
      onRename: (id, title) => this.library.rename(id, title),
      onDelete: (id) => this.#delete(id),
      onExport: () => this.#export(),
      onImport: (text) => this.#import(text),
      onKey: () => this.#askForKey("key.note"),
    });
    this.thread = new Thread(byId("thread"), byId("messages"), {
      onEdit: (index, text) => this.#sendAgain(index, text),
      onRegenerate: () => this.#regenerate(),
      onResults: (results) => this.#continueWith(results),
      onExample: (text) => this.#send(text),
    });
    this.composer = new Composer(byId("composer"), {
      onSend: (text) => this.#send(text),
      onStop: () => this.runs.get(this.current.id)?.stop(),
      onInput: () => this.request.refresh(),
    });
    this.panel = new Panel(byId("panel"), this.request, {
      transport: this.transport,
      onTransport: (name) => this.#useTransport(name),
      onChange: (options) => {
        this.current.options = options;
        this.#settingsChanged();
        this.library.save(this.current);
      },
      onClose: () => this.panelDrawer.set(false),
    });
    const menu = iconButton("menu", "sidebar");
    const sliders = iconButton("sliders", "panel");
    const space = h("span", { class: "space" });
    byId("bar").append(menu, this.picker.select, space, themePicker(), languagePicker(), sliders);
    this.sidebarDrawer = new Drawer(byId("sidebar"), menu, { name: "sidebar", wide: "760px" });
    this.panelDrawer = new Drawer(byId("panel"), sliders, { name: "panel", wide: "1180px" });
    this.sidebarDrawer.set(this.sidebarDrawer.beside.matches);
    this.panelDrawer.set(false);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog"))
        this.runs.get(this.current.id)?.stop();
    });
    document.addEventListener("languagechosen", () => this.#list());
  }

  #open(conversation) {
    this.current = conversation;
    setPreference("conversation", conversation.id);
    this.panel.show(conversation.options);
    this.#show();
    this.#list();
    this.request.refresh();
    this.sidebarDrawer.closeIfOnTop();
    this.composer.focus();
  }

  /** The current conversation, as it is now. */
  #show() {
    const run = this.runs.get(this.current.id);
    const { messages } = this.current;
    // The message of an answer that is being written is shown by its own view.
    const count = run?.message ? messages.length - 1 : messages.length;
    this.thread.show(this.current, run?.view ?? null, count);
    this.composer.setBusy(run !== undefined);
  }

  #list() {
    this.sidebar.show(this.library.conversations, this.current.id);
  }

  #send(text) {
    if (this.runs.has(this.current.id)) return;
    this.current.messages.push({ role: "user", content: text });
    this.current.title ||= titleOf(text);
    this.#generate(this.current);
  }

  #sendAgain(index, text) {
    if (this.runs.has(this.current.id)) return;
    this.current.messages.splice(index);
    this.#send(text);
  }

  #regenerate() {
    const { messages } = this.current;
    if (messages.at(-1)?.role === "assistant") messages.pop();
    this.#generate(this.current);
  }

  #continueWith(results) {
    this.current.messages.push(...results.map((result) => ({ role: "tool", ...result })));
    this.#generate(this.current);
  }

  async #generate(conversation) {
    const body = this.#checkedBody(conversation);
    this.library.save(conversation);
    if (body === null) {
      this.#show();
      return;
    }
    const view = new AnswerView(() => this.thread.follow());
    const run = new Run(conversation, view, () => this.library.save(conversation));
    this.runs.set(conversation.id, run);
    this.#show();
    this.#announce(t("announce.begun"));
    const ask = this.transport === "websocket" ? answerOverSocket : answerOverHttp;
    await run.read((signal) => ask(this.client, body, signal));
    this.runs.delete(conversation.id);
    if (conversation.id === this.current.id) this.#ended(run);
  }

  #ended(run) {
    const hadFocus = document.activeElement === document.body;
    this.thread.settle(this.current, run.view, run.message !== null);
    this.composer.setBusy(false);
    this.request.refresh();
    if (run.failure !== null) {
      const { element } = new FailureView(run.failure, {
        onRetry: () => this.#regenerate(),
        onKey: () => this.#askForKey("key.needed"),
      });
      this.thread.append(element);
    } else {
      const calls = openCalls(this.current);
      const said = run.message?.content.slice(0, SPOKEN_LETTERS) ?? "";
      this.#announce(calls.length > 0 ? t("announce.calls") : `${t("announce.ended")} ${said}`);
    }
    if (hadFocus) this.composer.focus();
  }

  /**
   * What would be sent with the text that is written now; without any what the last answer came
   * from. Null where it cannot be sent.
   */
  #shownBody() {
    const messages = [...this.current.messages];
    const draft = this.composer.text.trim();
    if (draft !== "") messages.push({ role: "user", content: draft });
    else if (messages.at(-1)?.role === "assistant") messages.pop();
    try {
      return requestBody({ ...this.current, messages }, this.picker.name);
    } catch (error) {
      if (error instanceof OptionProblem) return null;
      throw error;
    }
  }

  /** The same; where it cannot be sent the visitor is shown why. */
  #checkedBody(conversation) {
    try {
      return requestBody(conversation, this.picker.name);
    } catch (error) {
      if (!(error instanceof OptionProblem)) throw error;
      this.panelDrawer.set(true);
      this.panel.reveal(error);
      toast(t("problem.told"));
      return null;
    }
  }

  #settingsChanged() {
    this.panel.showDefaults(this.picker.model);
    this.request.refresh();
  }

  #useTransport(name) {
    this.transport = name;
    setPreference("transport", name);
  }

  async #loadModels() {
    try {
      this.picker.show(await this.client.models());
      this.#settingsChanged();
      const isLoading = this.picker.models.some(({ status }) => status === "loading");
      if (isLoading && !document.hidden) setTimeout(() => this.#loadModels(), LOADING_MS);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.isTemporary) setTimeout(() => this.#loadModels(), AGAIN_MS);
      else if (!error.isAboutKey || this.keys.value !== "") toast(error.message);
      else if (!document.querySelector("dialog")) await this.#askForKey("key.needed");
    }
  }

  async #askForKey(about) {
    if (await askForKey(this.keys, about)) await this.#loadModels();
  }

  async #delete(id) {
    const gone = this.library.find(id);
    this.runs.get(id)?.stop();
    const isRemoved = this.library.remove(id);
    if (id === this.current.id) this.#open(newConversation(gone.options));
    await isRemoved;
    toast(t("deleted"), { key: "undo", run: () => this.library.restore(gone) });
  }

  #export() {
    const file = new Blob([this.library.export()], { type: "application/json" });
    const link = h("a", {
      href: URL.createObjectURL(file),
      download: "llmserve-conversations.json",
    });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  #import(text) {
    try {
      toast(t("import.done", { count: this.library.import(text) }));
    } catch {
      toast(t("import.failed"));
    }
  }

  #announce(words) {
    this.announcer.textContent = words;
  }
}

startLanguage();
new Chat().start();
