# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report of a recovery says otherwise than that of a drill, in both languages."""

from __future__ import annotations

import dataclasses

from .format import Language
from .texts import StageTexts, Texts

COMMAND = "pharma-ops recover"
ANOTHER = "pharma-ops recover --backup ID"
RUNBOOK = "docs/runbooks/recover.md"

_EN_WORDS = {
    "title": "Recovery of production",
    "trend": "Last recoveries",
    "this_drill": "in this recovery",
    "never_note": "no recovery of this ledger has passed",
    "first_drill": "The first recovery of this ledger.",
    "host": "Host",
    "no_release": "started by the playbook afterwards, not by the recovery",
    "not_applicable": "does not apply to this recovery",
    "sentence_passed": "The database is back: what serves now equals the backup row for row, "
    "with its roles and privileges.",
    "todo_passed": "Set the passwords of the roles and put the release into service (playbooks/recover.yml does "
    "both). Remove the old data directory when nobody needs it any more.",
    "todo_other": "Read drill.log, remove the cause and run the recovery again, or undo it.",
    "command": COMMAND,
    "runbook_page": RUNBOOK,
}
_EN_STAGES = {
    "preflight": StageTexts(
        label="Prerequisites",
        expected="versions, extensions, disk and keys of this host suit the backup; the data can be set aside",
        failed="This host is not fit to take the backup: {names}.",
        unknown="This host is not ready for the recovery: {names}.",
        action="Put the host right and run the recovery again. Nothing was touched.",
        command="pharma-ops recover --dry-run",
    ),
    "confirm": StageTexts(
        label="Confirmation",
        expected="the database's name was given, and nobody is connected",
        failed="The recovery was not confirmed.",
        unknown="The recovery was not confirmed, or somebody is connected.",
        action="Stop the application, then type the database's name. Nothing was touched.",
        command=COMMAND,
    ),
    "provision": StageTexts(
        label="New cluster",
        expected="a new PostgreSQL with checksums, beside the old data, that nobody else reaches",
        failed="The new cluster could not be made.",
        unknown="The new cluster could not be made.",
        action="See in drill.log why PostgreSQL did not start: disk, memory or packages. The old data are in place.",
        command=COMMAND,
    ),
    "restore": StageTexts(
        label="Restore",
        expected="pg_restore ends without a single error, roles and privileges included",
        failed="The restore ended with an error.",
        unknown="The restore did not come to its end.",
        action="Recover the backup before it. The old data are in place.",
        command=ANOTHER,
    ),
    "compare": StageTexts(
        label="Comparison with the backup",
        expected="structure, rows, content, sequences and extensions equal the manifest",
        failed="What was restored does not equal the backup: {names}.",
        unknown="Whether it equals the backup could not be decided: {names}.",
        action="Recover an earlier backup, best a proven one. The old data are in place.",
        command=ANOTHER,
    ),
    "stop": StageTexts(
        label="Stop of the old server",
        expected="nobody is connected, and the old server ends",
        failed="The old server did not stop.",
        unknown="The old server was not stopped.",
        action="Stop the application and, if need be, the server by hand; then run the recovery again.",
        command=COMMAND,
    ),
    "set_aside": StageTexts(
        label="Change of places",
        expected="the old data directory has another name, and the new one is in its place",
        failed="The data directories did not change places.",
        unknown="The data directories did not change places.",
        action="The message says what lies where. pharma-ops recover undo brings the old one back.",
        command="pharma-ops recover undo",
    ),
    "settle": StageTexts(
        label="Start",
        expected="the server starts with its own configuration, durable, with fresh statistics",
        failed="The server serves something else than it should: {names}.",
        unknown="The server did not start on the restored data: {names}.",
        action="Read the server's log. pharma-ops recover undo brings the old data back.",
        command="pharma-ops recover undo",
    ),
}
_PT_WORDS = {
    "title": "Recuperação da produção",
    "trend": "Últimas recuperações",
    "this_drill": "nesta recuperação",
    "never_note": "nenhuma recuperação deste histórico foi aprovada",
    "first_drill": "Primeira recuperação deste histórico.",
    "host": "Host",
    "no_release": "iniciada depois pelo playbook, não pela recuperação",
    "not_applicable": "não se aplica a esta recuperação",
    "sentence_passed": "O banco voltou: o que está em serviço é igual ao backup linha por linha, "
    "com papéis e privilégios.",
    "todo_passed": "Defina as senhas dos papéis e ponha a versão em serviço (playbooks/recover.yml faz ambos). "
    "Remova o diretório de dados antigo quando ninguém mais precisar dele.",
    "todo_other": "Leia drill.log, elimine a causa e execute a recuperação de novo, ou desfaça-a.",
    "command": COMMAND,
    "runbook_page": RUNBOOK,
}
_PT_STAGES = {
    "preflight": StageTexts(
        label="Pré-requisitos",
        expected="versões, extensões, disco e chaves deste host servem ao backup; os dados podem ser postos de lado",
        failed="Este host não serve para receber o backup: {names}.",
        unknown="Este host não está pronto para a recuperação: {names}.",
        action="Corrija o host e execute a recuperação de novo. Nada foi tocado.",
        command="pharma-ops recover --dry-run",
    ),
    "confirm": StageTexts(
        label="Confirmação",
        expected="o nome do banco foi dado, e ninguém está conectado",
        failed="A recuperação não foi confirmada.",
        unknown="A recuperação não foi confirmada, ou alguém está conectado.",
        action="Pare a aplicação e digite o nome do banco. Nada foi tocado.",
        command=COMMAND,
    ),
    "provision": StageTexts(
        label="Cluster novo",
        expected="um PostgreSQL novo com checksums, ao lado dos dados antigos, que ninguém mais alcança",
        failed="O cluster novo não pôde ser criado.",
        unknown="O cluster novo não pôde ser criado.",
        action="Veja em drill.log por que o PostgreSQL não iniciou: disco, memória ou pacotes. "
        "Os dados antigos estão no lugar.",
        command=COMMAND,
    ),
    "restore": StageTexts(
        label="Restauração",
        expected="pg_restore termina sem nenhum erro, papéis e privilégios incluídos",
        failed="A restauração terminou com erro.",
        unknown="A restauração não chegou ao fim.",
        action="Recupere o backup anterior. Os dados antigos estão no lugar.",
        command=ANOTHER,
    ),
    "compare": StageTexts(
        label="Comparação com o backup",
        expected="estrutura, linhas, conteúdo, sequências e extensões iguais ao manifesto",
        failed="O que foi restaurado não é igual ao backup: {names}.",
        unknown="Não foi possível decidir se é igual ao backup: {names}.",
        action="Recupere um backup anterior, de preferência um comprovado. Os dados antigos estão no lugar.",
        command=ANOTHER,
    ),
    "stop": StageTexts(
        label="Parada do servidor antigo",
        expected="ninguém está conectado, e o servidor antigo termina",
        failed="O servidor antigo não parou.",
        unknown="O servidor antigo não foi parado.",
        action="Pare a aplicação e, se preciso, o servidor à mão; depois execute a recuperação de novo.",
        command=COMMAND,
    ),
    "set_aside": StageTexts(
        label="Troca de lugares",
        expected="o diretório de dados antigo tem outro nome, e o novo está no lugar dele",
        failed="Os diretórios de dados não trocaram de lugar.",
        unknown="Os diretórios de dados não trocaram de lugar.",
        action="A mensagem diz o que está onde. pharma-ops recover undo traz o antigo de volta.",
        command="pharma-ops recover undo",
    ),
    "settle": StageTexts(
        label="Início",
        expected="o servidor inicia com a sua configuração, durável, com estatísticas novas",
        failed="O servidor serve outra coisa que não deveria: {names}.",
        unknown="O servidor não iniciou com os dados restaurados: {names}.",
        action="Leia o log do servidor. pharma-ops recover undo traz os dados antigos de volta.",
        command="pharma-ops recover undo",
    ),
}
# What to do when a stage that a drill has as well did not pass: action and command.
_EN_NEXT = {
    "select": ("See which backups there are. Nothing was touched.", "pharma-ops backup list"),
    "fetch": ("Check the store, the network and the reader's credentials. Nothing was touched.", COMMAND),
    "verify_artefacts": (
        (
            "Do not use this backup; keep it as it is and find out who changed it. Recover an earlier one. "
            "The old data are in place."
        ),
        ANOTHER,
    ),
    "decrypt": (
        "Recover an earlier backup; if none opens, try the escrow key. The old data are in place.",
        ANOTHER,
    ),
}
_PT_NEXT = {
    "select": ("Veja quais backups existem. Nada foi tocado.", "pharma-ops backup list"),
    "fetch": (
        "Verifique o armazenamento, a rede e as credenciais de leitura. Nada foi tocado.",
        COMMAND,
    ),
    "verify_artefacts": (
        (
            "Não use este backup; guarde-o como está e descubra quem o alterou. Recupere um anterior. "
            "Os dados antigos estão no lugar."
        ),
        ANOTHER,
    ),
    "decrypt": (
        "Recupere um backup anterior; se nenhum abrir, tente a chave de custódia. Os dados antigos estão no lugar.",
        ANOTHER,
    ),
}
NEXT_STEPS: dict[Language, dict[str, tuple[str, str]]] = {"en": _EN_NEXT, "pt-BR": _PT_NEXT}
WORDS: dict[Language, dict[str, str]] = {"en": _EN_WORDS, "pt-BR": _PT_WORDS}
STAGES: dict[Language, dict[str, StageTexts]] = {"en": _EN_STAGES, "pt-BR": _PT_STAGES}


def of_recovery(texts: Texts, language: Language) -> Texts:
    """The catalogue of a language, with what a recovery says otherwise."""
    shared = {
        name: dataclasses.replace(texts.stages[name], action=action, command=command)
        for name, (action, command) in NEXT_STEPS[language].items()
    }
    return dataclasses.replace(
        texts, words=texts.words | WORDS[language], stages=texts.stages | shared | STAGES[language]
    )
