/*
 * Messages in which commands and settings stand between backticks, shown as code. In flow texts, partly of other
 * machines; out flow nodes of the document, never markup of a message.
 */
$(function () {
    window.MESBridge = window.MESBridge || {};

    /** The nodes of `text`: text, and `<code>` for what stands between two backticks. */
    const nodes = (text) => {
        const parts = String(text || "").split("`");
        const unclosed = parts.length % 2 === 0 ? parts.pop() : null;
        if (unclosed !== null) parts[parts.length - 1] += "`" + unclosed;
        return parts
            .map((part, index) => (index % 2 ? $("<code></code>").text(part)[0] : document.createTextNode(part)))
            .filter((node) => node.textContent);
    };

    /** `text` escaped for HTML, for where OctoPrint wants that. */
    MESBridge.escape = (text) => $("<div></div>").append(nodes(text)).html();

    /** As Knockout's `text`, with code. What has not changed is not drawn again, and stays selected. */
    ko.bindingHandlers.mesbridgeText = {
        init: () => ({controlsDescendantBindings: true}),
        update: (element, value) => {
            const text = String(ko.unwrap(value()) || "");
            if (element.mesbridgeText === text) return;
            element.mesbridgeText = text;
            $(element).empty().append(nodes(text));
        }
    };
});
