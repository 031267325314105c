/*
 * The machine's entry for the Aggregator's config.json, as its versions want it.
 * In flow what the form says; out flow texts to copy and files to save. No document, no network.
 */
$(function () {
    window.MESBridge = window.MESBridge || {};

    const LOOPBACK = /^(localhost|.*\.localhost|127\.[\d.]+|0\.0\.0\.0|\[::1?\])$/i;

    /** Part of a file's name made of `name`; never empty. */
    MESBridge.slug = (name) =>
        (name || "")
            .normalize("NFKD")
            .toLowerCase()
            .replace(/[^a-z0-9]+/g, "-")
            .replace(/^-+|-+$/g, "")
            .slice(0, 64) || "printer";

    /** The MES instances of a text such as "1, 2"; null when it is none. */
    MESBridge.mesIds = (text) => {
        const parts = (text || "").split(/[\s,;]+/).filter((part) => part !== "");
        if (!parts.length || !parts.every((part) => /^\d{1,9}$/.test(part))) return null;
        return _.uniq(parts.map(Number));
    };

    /** The TCP port of a text; null when it is empty, undefined when it is none. */
    MESBridge.port = (text) => {
        const trimmed = String(text || "").trim();
        if (!trimmed) return null;
        const port = /^\d{1,5}$/.test(trimmed) ? Number(trimmed) : 0;
        return port >= 1 && port <= 65535 ? port : undefined;
    };

    const HOST = /(\[[\da-fA-F:.]+(?:%[\w.-]+)?\]|[^\s/:@?#[\]]+)/;
    const ADDRESS = new RegExp("^(https?://)?" + HOST.source + "(?::(\\d+))?(?:/[!-\"$->A-~]*)?$");

    const addressed = (text) => {
        const [whole, scheme, , port] = ADDRESS.exec(text) || [];
        return whole && MESBridge.port(port) !== undefined ? {scheme} : null;
    };

    /** Whether `text` is an address; the server judges in full, this only sees what cannot be one. */
    MESBridge.isAddress = (text) => !!(addressed(text) || {}).scheme;

    /** `text` with http:// in front if that is all that it lacks to be an address. */
    MESBridge.withScheme = (text) => {
        const found = addressed(text);
        return found && !found.scheme ? "http://" + text : text;
    };

    const part = (address, name) => {
        try {
            return new URL(address)[name];
        } catch (error) {
            return "";
        }
    };

    /** The host of `address`, with its port unless that is the usual one; "" when it is none. */
    MESBridge.hostAndPort = (address) => part(address, "host");

    /** The scheme, host and port of `address`; "" when it is none. */
    MESBridge.origin = (address) => part(address, "origin");

    /** Whether a bridge on another computer would reach itself, and not this OctoPrint, at `address`. */
    MESBridge.isLoopback = (address) => LOOPBACK.test(part(address, "hostname"));

    /**
     * The entry as JSON. `version`: "1.1", "1.2" (up to 1.3) or "1.4" (and later); `of`: url, name, mesIds (numbers),
     * secretFile, port (number or null) and key, which only 1.1 has in the entry itself.
     */
    MESBridge.entry = (version, of) => {
        const entry = {type: "OCTOPRINT", url: of.url};
        if (version === "1.1") {
            entry.api_key = of.key;
        } else {
            if (of.name) entry.custom_name = of.name;
            entry.authentication_file_path = of.secretFile;
        }
        entry.mes_id = of.mesIds;
        if (version !== "1.4" && of.port) entry.umati_server_port = of.port;
        // A line break as such stands in no JSON text: only lists of numbers are drawn together.
        return JSON.stringify(entry, null, 2).replace(/\[\n\s+([\d,\s]+?)\n\s+\]/g, (list, inner) =>
            "[" + inner.replace(/\s+/g, " ") + "]"
        );
    };

    /** Let the browser save `text` as a file. */
    MESBridge.save = (name, type, text) => {
        const url = URL.createObjectURL(new Blob([text], {type: type}));
        const link = $("<a></a>").attr({href: url, download: name}).appendTo("body");
        link[0].click();
        link.remove();
        window.setTimeout(() => URL.revokeObjectURL(url), 10000);
    };
});
